import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from ovamgen.errors import ConfigError
from ovamgen.tokens.authors_tokens import import_authors_tokens
from tests.voc import VOC_CLASSES

START = np.linspace(-1, 1, 6, dtype=np.float32)
NAMES = tuple(voc.name for voc in VOC_CLASSES)
# the order and spelling of the released file's kind: tv before train, hyphens
AUTHORS = (*(v.phrase.replace(" ", "-") for v in VOC_CLASSES if v.id != 19), "train")
HEADER = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"


def load(path, start=START, names=NAMES):
    return import_authors_tokens(path, start, class_names=names, text_encoder="tiny")


def rows(width=6):
    return {name: np.full(width, index, np.float32) for index, name in enumerate(AUTHORS)}


def saved(tmp_path, content):
    np.save(tmp_path / "tokens.npy", np.array(content, dtype=object), allow_pickle=True)
    return tmp_path / "tokens.npy"


def raw(tmp_path, payload):
    """An .npy file of one object with these bytes as its pickle."""
    header = HEADER.ljust(117) + b"\n"
    path = tmp_path / "tokens.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload)
    return path


def test_rows_are_paired_and_put_in_order(tmp_path):
    bank = load(saved(tmp_path, rows()))
    assert bank.class_names == NAMES
    for name, pair in zip(NAMES, bank.pairs, strict=True):
        hyphenated = {
            "diningtable": "dining-table",
            "pottedplant": "potted-plant",
            "tvmonitor": "tv",
        }
        np.testing.assert_array_equal(pair[0], START)
        np.testing.assert_array_equal(pair[1], AUTHORS.index(hyphenated.get(name, name)))
    assert NAMES.index("train") == 18
    assert "<SoT> of tiny for 20 classes" in bank.provenance["background_row"]
    assert len(bank.provenance["origin_sha256"]) == 64


def test_pairs_are_kept(tmp_path):
    content = {name: np.stack([row - 1, row]) for name, row in rows().items()}
    bank = load(saved(tmp_path, content))
    np.testing.assert_array_equal(bank.pairs[7, 0], AUTHORS.index("cat") - 1)
    assert bank.provenance["background_row"] == "as optimised"


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_float_and_layout(tmp_path, dtype, order):
    draws = np.random.default_rng(0)
    content = {name: draws.random((2, 6)).astype(dtype, order=order) for name in AUTHORS}
    bank = load(saved(tmp_path, content))
    np.testing.assert_array_equal(bank.pairs[7], content["cat"].astype(np.float32))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickles_of_any_numpy(tmp_path, protocol):
    """numpy 1 and 2 name their function differently, and protocols spell it differently."""
    payload = pickle.dumps(np.array(rows(), dtype=object), protocol=max(protocol, 3))
    if protocol == 2:
        payload = payload.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert load(raw(tmp_path, payload)).pairs.shape == (20, 2, 6)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def bomb(path):
    path.write_text("executed")


def deep_key():
    """A dictionary whose key is a tuple of tuples of tuples, each with the one before it twice."""
    body = b"\x80\x04})q\x00"
    for level in range(60):
        body += b"h%ch%c\x86q%c" % (level, level, level + 1)
    return body + b"K\x01s."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04" + b"(" * 100_001 + b".", "more than 100000 operations"),
        pytest.param(
            b"\x80\x04(" + b"K\x01" * 100_001 + b"l.",
            "more than 100000 operations",
            marks=pytest.mark.slow,
        ),
        (deep_key(), "a dictionary of names expected"),
        (b"\x80\x04\x8f.", "pickle of numpy float arrays"),
    ],
    ids=["marks", "numbers", "a deep key", "a set"],
)
def test_what_costs_more_than_it_looks_is_refused(tmp_path, content, message):
    with pytest.raises(ConfigError, match=message):
        load(raw(tmp_path, content))


@pytest.mark.parametrize(
    "call",
    [
        lambda p: Call(os.system, f"touch {p}"),
        lambda p: Call(eval, f"open({str(p)!r}, 'w')"),
        lambda p: Call(exec, f"open({str(p)!r}, 'w')"),
        lambda p: Call(bomb, p),
        lambda p: Call(getattr, "", "join"),
        lambda p: Call(np.load, str(p)),
        lambda p: Call(np.ndarray, (2**50,)),
        lambda p: Call(np.zeros, (2**50,)),
    ],
    ids=["os.system", "eval", "exec", "ours", "getattr", "np.load", "np.ndarray", "np.zeros"],
)
@pytest.mark.parametrize("place", ["inside", "outermost"])
def test_calls_are_refused_and_not_executed(tmp_path, call, place):
    trace = tmp_path / "trace"
    evil = call(trace)
    if place == "inside":
        path = saved(tmp_path, rows() | {"cat": evil})
    else:
        path = raw(tmp_path, pickle.dumps(evil))
    with pytest.raises(ConfigError, match=r"was refused.*nothing in it was executed"):
        load(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([1, 2, 3]),
        np.array(["text"]),
        np.zeros(3, [("a", "f4")]),
        np.complex64([1j]),
        [1.0, 2.0],
        "row",
        None,
    ],
    ids=["objects", "integers", "strings", "records", "complex", "list", "str", "None"],
)
def test_what_is_no_array_of_floats_is_refused(tmp_path, value):
    with pytest.raises(ConfigError, match="was refused"):
        load(saved(tmp_path, rows() | {"cat": value}))


def patched(old, new):
    payload = pickle.dumps(np.array(rows(), dtype=object), protocol=3)
    assert payload.count(old) >= 1
    return payload.replace(old, new)


SHAPE_6 = b"K\x01K\x06\x85"  # version 1, shape (6,)


@pytest.mark.parametrize(
    "payload",
    [
        lambda: patched(SHAPE_6, b"K\x01J\xff\xff\xff\x7f\x85"),  # a huge shape
        lambda: patched(SHAPE_6, b"K\x01J\xff\xff\xff\xff\x85"),  # a negative one
        lambda: patched(SHAPE_6, b"K\x01K\x05\x85"),  # bytes left over
        lambda: patched(SHAPE_6, b"K\x01N"),  # no shape
        lambda: patched(b"X\x02\x00\x00\x00f4", b"X\x02\x00\x00\x00O8"),
        lambda: b"\x80\x03r\xff\xff\xff\xff.",  # memo index of four billion
        lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",  # bytes of four exabytes
        lambda: b"\x80\x03cnumpy\nndarray\n}(X\x01\x00\x00\x00aK\x01ub.",  # state for a name
        lambda: b"\x80\x03cnumpy\nndarray\n(t\x81.",  # a new object without its function
        lambda: b"\x80\x03cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",
        lambda: b"(inumpy\nndarray\n.",
        lambda: b"\x80\x02\x82\x01.",  # an extension code
        lambda: b"\x80\x03Pid\n.",  # a persistent id
        lambda: b"",
        lambda: b".",
        lambda: b"\xff\xff",
    ],
)
def test_malformed_pickles_are_refused(tmp_path, payload):
    with pytest.raises(ConfigError, match="was refused"):
        load(raw(tmp_path, payload()))


def test_every_truncation_and_bit_flip_is_an_import_or_a_refusal(tmp_path):
    whole = pickle.dumps(np.array(rows(2), dtype=object), protocol=3)
    assert sum(1 for _ in pickletools.genops(whole)) > 100
    start = START[:2]
    for cut in range(0, len(whole), 7):
        with pytest.raises(ConfigError):
            load(raw(tmp_path, whole[:cut]), start)
    for place in range(0, len(whole), 5):
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        try:
            load(raw(tmp_path, bytes(broken)), start)
        except ConfigError:
            continue


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("cat"), "missing: cat; unknown: none"),
        (lambda d: d.update(zebra=d["cat"]), "missing: none; unknown: zebra"),
        (lambda d: d.update(tvmonitor=d["cat"]), "each of the 20 classes once"),
        (lambda d: d.update(cat=np.zeros(7, np.float32)), r"rows \(6,\) or pairs \(2, 6\)"),
        (lambda d: d.update(cat=np.zeros((3, 6), np.float32)), r"got shapes \(3, 6\), \(6,\)"),
    ],
)
def test_contents_that_do_not_fit(tmp_path, change, reason):
    content = rows()
    change(content)
    with pytest.raises(ConfigError, match=reason):
        load(saved(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no .npy file"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr'", "is no .npy file"),
        (b"\x93NUMPY\x09\x00\x10\x00", "is no .npy file"),
        (pickle.dumps({}), "is no .npy file"),
    ],
)
def test_other_files_are_refused(tmp_path, content, reason):
    (tmp_path / "tokens.npy").write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        load(tmp_path / "tokens.npy")


def test_plain_arrays_are_refused(tmp_path):
    np.save(tmp_path / "tokens.npy", np.zeros((20, 6)))
    with pytest.raises(ConfigError, match="must hold one dictionary"):
        load(tmp_path / "tokens.npy")


def test_the_released_file(shared):
    """Methods 0.6: 20 class rows of width 768 with norms of 27.6 to 42.3."""
    path = shared / "data/ovam/tokens_VOC.npy"
    start = np.zeros(768, np.float32)
    bank = import_authors_tokens(path, start, class_names=NAMES, text_encoder="CLIP ViT-L/14")
    assert bank.pairs.shape == (20, 2, 768)
    norms = np.linalg.norm(bank.pairs[:, 1], axis=1)
    assert (norms.min().round(1), norms.max().round(1)) == (27.6, 42.3)
    trusted = np.load(path, allow_pickle=True).item()
    for name, theirs in (("train", "train"), ("tvmonitor", "tv"), ("diningtable", "dining-table")):
        np.testing.assert_array_equal(bank.pairs[NAMES.index(name), 1], trusted[theirs])
    assert bank.provenance["origin_sha256"].startswith("532f05423bedaf3c")
