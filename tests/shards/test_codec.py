import dataclasses
import hashlib
import inspect
import io
import json
import random
import zipfile
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ovamgen.config import ShardConfig
from ovamgen.errors import SampleError, ShardError
from ovamgen.shards.codec import decode_sample, encode_sample
from ovamgen.shards.schema import SAMPLE_SCHEMA, conform, to_json
from tests.shards.samples import CLASS_IDS, CLASSES, PROVENANCE, draw, make_sample, make_spec

WITH_HEATMAPS = ShardConfig(heatmaps=True)


def _members(sample):
    return dict(sample.members)


def test_round_trip():
    spec = make_spec(3, targets=[CLASSES[1], CLASSES[3]])
    image, labels, heatmaps = draw(spec)
    decoded = decode_sample(_members(make_sample(spec, settings=WITH_HEATMAPS)))
    assert decoded.key == spec.key
    assert decoded.caption == spec.caption
    np.testing.assert_array_equal(decoded.labels, labels)
    assert set(np.unique(decoded.labels)) == {0, 8, 15, 255}
    assert np.abs(decoded.image.astype(int) - image).mean() < 6, "JPEG of noise at quality 95"
    assert decoded.heatmap_class_ids == CLASS_IDS
    assert np.abs(decoded.heatmaps / 255 - heatmaps).max() <= 0.5 / 255 + 1e-3
    assert decoded.metadata["seed"] == spec.seed
    assert decoded.metadata["scores"] == [0.912346, 0.912346]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (ShardConfig(), ["jpg", "json", "mask.png", "txt"]),
        (WITH_HEATMAPS, ["heatmaps.npz", "jpg", "json", "mask.png", "txt"]),
    ],
)
def test_members_stand_in_sorted_order(settings, names):
    assert [name for name, _ in make_sample(make_spec(0), settings=settings).members] == names


def test_equal_arguments_give_equal_bytes(monkeypatch):
    first = make_sample(make_spec(1), settings=WITH_HEATMAPS)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    random.seed(5)
    again = make_sample(make_spec(1), settings=WITH_HEATMAPS)
    assert again == first
    with zipfile.ZipFile(io.BytesIO(_members(first)["heatmaps.npz"])) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_jpeg_is_444_at_the_asked_quality_and_marked_as_synthetic():
    member = _members(make_sample(make_spec(0)))["jpg"]
    with Image.open(io.BytesIO(member)) as picture:
        assert picture.size == (64, 48)
        assert [component[1:3] for component in picture.layer] == [(1, 1)] * 3
        assert "exif" not in picture.info
        packet = picture.info["xmp"].decode()
    body = packet[packet.index("<x:xmpmeta") : packet.index("<?xpacket end")]
    (description,) = ElementTree.fromstring(body)[0]
    values = {name.rpartition("}")[2]: value for name, value in description.attrib.items()}
    assert values["DigitalSourceType"].endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    assert set(values) == {"about", "DigitalSourceType"}, "nothing that depends on time"
    small = make_sample(make_spec(0), settings=ShardConfig(jpeg_quality=50))
    assert len(_members(small)["jpg"]) < 0.7 * len(member)


def test_mask_is_one_channel_without_palette_or_notes():
    with Image.open(io.BytesIO(_members(make_sample(make_spec(0)))["mask.png"])) as picture:
        assert (picture.mode, picture.info) == ("L", {})


def test_json_text_by_hand():
    sample = make_sample(
        make_spec(0, caption='Zoë\'s "tea" ☕', prompt="tea"),
        scores=[1.0],
        areas=[1e-6],
        provenance=dataclasses.replace(PROVENANCE, guidance=8.0, tau=1e-7),
    )
    text = _members(sample)["json"].decode()
    assert text.startswith('{"areas":[0.000001],"branch":"unconditional","caption":"Zoë')
    assert '"guidance":8.0,' in text
    assert '"tau":0.0000001,' in text
    assert '"scores":[1.0],' in text
    assert '"unsafe":false,' in text
    assert f'"seed":{2**62},' in text
    assert json.loads(text) == sample.metadata
    assert list(json.loads(text)) == sorted(SAMPLE_SCHEMA.names)


def test_whole_numbers_of_float_fields_stay_floats():
    record = conform(
        make_sample(make_spec(0)).metadata | {"guidance": 8, "scores": [np.float32(1)]}
    )
    assert '"guidance":8.0,' in to_json(record)
    assert '"scores":[1.0],' in to_json(record)
    with pytest.raises(SampleError, match="caption must be of type string, got None"):
        conform(record | {"caption": None})
    with pytest.raises(SampleError, match="steps must be of type int64, got True"):
        conform(record | {"steps": True})
    with pytest.raises(SampleError, match="tau must be of type double, got True"):
        conform(record | {"tau": True})
    with pytest.raises(SampleError, match="guidance must fit 64 bits"):
        conform(record | {"guidance": 10**400})


def test_digests_are_of_raw_pixels():
    spec = make_spec(2)
    image, labels, _ = draw(spec)
    metadata = make_sample(spec).metadata
    assert metadata["image_sha256"] == hashlib.sha256(image.tobytes()).hexdigest()
    assert metadata["mask_sha256"] == hashlib.sha256(labels.tobytes()).hexdigest()


def test_previews_are_the_targets_maps_in_their_order():
    spec = make_spec(0, targets=[CLASSES[3], CLASSES[1]])
    _, _, heatmaps = draw(spec)
    previews = make_sample(spec).previews
    for preview, row in zip(previews, [3, 1], strict=True):
        with Image.open(io.BytesIO(preview)) as picture:
            assert (picture.mode, picture.size) == ("L", (8, 6))
            expected = np.rint(heatmaps[row].astype(np.float32) * 255)
            np.testing.assert_array_equal(np.array(picture), expected)


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_unit = st.floats(0, 1)


# Plain values only: building samples inside a strategy would run beartype there, which draws from
# the random module.
_ARGUMENTS = st.lists(st.sampled_from(CLASSES), min_size=1, max_size=5, unique=True).flatmap(
    lambda targets: st.fixed_dictionaries(
        {
            "targets": st.just(targets),
            "caption": _text,
            "prompt": _text,
            "seed": st.integers(0, 2**63 - 1),
            "caption_id": st.integers(-(2**63), 2**63 - 1),
            "word_included": st.booleans(),
            "scores": st.lists(_unit, min_size=len(targets), max_size=len(targets)),
            "areas": st.lists(_unit, min_size=len(targets), max_size=len(targets)),
            "heatmap_max": st.lists(_unit, min_size=5, max_size=5),
            "unsafe": st.booleans(),
            "guidance": st.sampled_from([0.0, 1.0, 7.5, 1e-9, 1e22]),
            "model_revision": _text,
        }
    )
)


def _build(arguments):
    names = ("targets", "caption", "prompt", "seed", "caption_id", "word_included")
    provenance = {name: arguments[name] for name in ("guidance", "model_revision")}
    return make_sample(
        make_spec(0, **{name: arguments[name] for name in names}),
        height=8,
        width=16,
        provenance=dataclasses.replace(PROVENANCE, **provenance),
        **{name: arguments[name] for name in ("scores", "areas", "heatmap_max", "unsafe")},
    )


@settings(max_examples=60)
@given(one=_ARGUMENTS, other=_ARGUMENTS)
def test_any_two_samples_have_equal_arrow_schemas(one, other):
    """Conventions 3.3: a loader that infers types from one sample must be right for all."""
    tables = []
    for sample in (_build(one), _build(other)):
        values = json.loads(dict(sample.members)["json"])
        assert values == sample.metadata
        tables.append(pa.Table.from_pylist([values]))
    assert tables[0].schema == tables[1].schema
    expected = {field.name: field.type for field in SAMPLE_SCHEMA}
    assert {field.name: field.type for field in tables[0].schema} == expected


@settings(max_examples=60)
@given(arguments=_ARGUMENTS)
def test_every_float_has_a_decimal_point(arguments):
    sample = _build(arguments)
    text = dict(sample.members)["json"].decode()
    floats = []
    json.loads(text, parse_float=lambda digits: floats.append(digits) or float(digits))
    assert len(floats) == 3 * len(sample.metadata["class_ids"]) + 2
    assert all("." in digits and "e" not in digits.lower() for digits in floats)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scores": [float("nan")]}, "finite"),
        ({"scores": []}, "one entry for each"),
        ({"areas": [0.1, 0.2]}, "one entry for each"),
        ({"heatmap_max": [0.5]}, "one maximum for each"),
        ({"class_ids": (2, 3, 4, 5, 6)}, "no heatmap of aeroplane"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(values, message):
    with pytest.raises(SampleError, match=message):
        make_sample(make_spec(0), **values)


def test_specs_that_do_not_fit_are_refused():
    with pytest.raises(SampleError, match="is to show no class"):
        make_sample(
            make_spec(0, targets=[CLASSES[0]]).__class__(**_fields(targets=())), scores=[0.5]
        )
    with pytest.raises(SampleError, match="64 bits"):
        make_sample(make_spec(0, seed=2**63), height=8, width=8)
    with pytest.raises(SampleError, match="surrogates"):
        make_sample(make_spec(0, caption="bad \ud800 text"))


def _fields(**values):
    spec = make_spec(0)
    return {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)} | values


def test_image_of_another_size_is_refused():
    unchecked = inspect.unwrap(encode_sample)  # pytest's own shape checks would be first
    spec = make_spec(0)
    image, labels, heatmaps = draw(spec)
    with pytest.raises(SampleError, match="48 x 64"):
        unchecked(
            spec,
            image=image[:40],
            labels=labels,
            scores=[1.0],
            areas=[1.0],
            heatmaps=heatmaps,
            heatmap_max=[0.5] * 5,
            class_ids=CLASS_IDS,
            unsafe=False,
            provenance=PROVENANCE,
            settings=ShardConfig(),
        )


def _png(mode, size=(64, 48)):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("jpg", b"", "cannot be read as JPEG"),
        ("jpg", _png("RGB"), "cannot be read as JPEG"),
        ("mask.png", _png("P"), "pixels L of 48 x 64, got P"),
        ("mask.png", _png("RGB"), "got RGB"),
        ("mask.png", _png("L", (48, 64)), "got L of 64 x 48"),
        ("mask.png", _png("L"), "not those recorded"),
        ("txt", b"\xff\xfe", "not UTF-8"),
        ("json", b"{", "cannot be read"),
        ("json", b"[1]", "must be an object"),
        ("json", b"{}", "schema version None"),
        ("json", b'{"schema_version":2}', "schema version 2"),
        ("json", b'{"schema_version":1}', "missing"),
        ("heatmaps.npz", b"PK", "cannot be read as npz"),
    ],
)
def test_damaged_members_are_named(member, content, message):
    members = _members(make_sample(make_spec(0), settings=WITH_HEATMAPS))
    with pytest.raises(ShardError, match=message):
        decode_sample(members | {member: content})


@pytest.mark.parametrize("member", ["jpg", "json", "mask.png", "txt"])
def test_missing_members_are_named(member):
    members = _members(make_sample(make_spec(0)))
    del members[member]
    with pytest.raises(ShardError, match=f"missing here: {member}"):
        decode_sample(members)


def _npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_npz(maps=np.zeros((2, 3, 4), np.uint8)), "class_ids"),
        (
            _npz(maps=np.zeros((2, 3, 4), np.uint8), class_ids=np.zeros(3, np.uint8)),
            "K class ids",
        ),
        (_npz(maps=np.zeros((1, 3, 4)), class_ids=np.zeros(1, np.uint8)), "uint8"),
        (_npz(maps=np.array([object()]), class_ids=np.zeros(1, np.uint8)), "uint8|allow_pickle"),
    ],
)
def test_heatmaps_of_other_arrays_are_refused(content, message):
    members = _members(make_sample(make_spec(0)))
    with pytest.raises(ShardError, match=message):
        decode_sample(members | {"heatmaps.npz": content})


@settings(max_examples=60)
@given(data=st.data())
def test_flipped_and_cut_bytes_never_give_another_error(data):
    members = _members(_SAMPLE)
    name = data.draw(st.sampled_from(sorted(members)))
    content = bytearray(members[name])
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_sample(members | {name: bytes(content)})
    except ShardError:
        return
    if name == "mask.png":
        np.testing.assert_array_equal(decoded.labels, _DECODED.labels)


_SAMPLE = make_sample(make_spec(0), settings=WITH_HEATMAPS)
_DECODED = decode_sample(_members(_SAMPLE))
