"""Whole plans: from a file of captions to keys, seeds, batches, and the file of the plan."""

import hashlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovamgen.classes.labels import target_of
from ovamgen.classes.loading import built_in
from ovamgen.config import PlanConfig
from ovamgen.errors import ConfigError, PlanError
from ovamgen.plan.planning import Plan, estimate, make_plan, plan_settings, sample_key, sample_seed
from ovamgen.plan.prompts import Reason, Rejection
from ovamgen.records import SampleSpec, ShardTask, Target
from tests.voc import VOC_CLASSES

VOC = built_in("voc")

COLOURS = ["red", "blue", "green", "white", "black", "small", "large", "old", "new"]
CAPTIONS = [
    (100 + place, place // 2, f"A {colour} {noun}.")
    for place, (colour, noun) in enumerate(
        (colour, noun)
        for colour in COLOURS
        for noun in ("cat", "dog on a sofa", "hot dog", "man with a car")
    )
]


def test_keys_are_digits():
    assert sample_key(0, 0) == "00000000000"
    assert sample_key(12, 345) == "00001200345"
    assert sample_key(999_999, 99_999) == "99999999999"


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (10**6, 0), (0, 10**5)])
def test_keys_have_room(place):
    with pytest.raises(PlanError, match=str(place[0])):
        sample_key(*place)


def test_seeds_are_pinned():
    # printf 0:00000000000 | sha256sum: the first 16 digits, halved.
    assert sample_seed(0, "00000000000") == 112_743_191_488_143_925
    assert sample_seed(1, "00000000000") != sample_seed(0, "00000000000")


@given(run_seed=st.integers(0, 2**63 - 1), shard=st.integers(0, 99), index=st.integers(0, 999))
def test_seeds_fit(run_seed, shard, index):
    assert 0 <= sample_seed(run_seed, sample_key(shard, index)) < 2**63


def test_a_plan_is_cut_into_shards_and_batches(write_captions):
    url = write_captions(CAPTIONS)
    plan = make_plan(PlanConfig(captions=url, shard_size=10, batch_size=4, seed=5))
    # 9 colours x 3 captions with a target.
    assert [[len(batch) for batch in task.batches] for task in plan.tasks] == [
        [4, 4, 2],
        [4, 4, 2],
        [4, 3],
    ]
    specs = list(plan.specs)
    assert [spec.key for spec in specs[:2]] == ["00000000000", "00000000001"]
    assert (specs[-1].key, len(specs)) == ("00000200006", 27)
    assert [spec.seed for spec in specs] == [sample_seed(5, spec.key) for spec in specs]
    originals = {caption_id: (image_id, text) for caption_id, image_id, text in CAPTIONS}
    for spec in specs:
        assert originals[spec.caption_id] == (spec.image_id, spec.caption)
        assert spec.prompt == spec.caption[:-1]
        assert spec.word_included
    assert [r.caption_id for r in plan.rejections] == [i for i, _, t in CAPTIONS if "hot" in t]
    assert {r.reason for r in plan.rejections} == {Reason.NO_TARGET}
    with open(url, "rb") as file:
        assert plan.inputs == {"captions": hashlib.sha256(file.read()).hexdigest()}


def test_the_plan_of_a_file_depends_on_neither_path_nor_order(write_captions):
    config = PlanConfig(captions=write_captions(CAPTIONS), limit=11, shard_size=4)
    plan = make_plan(config)
    mixed = make_plan(
        config.model_copy(update={"captions": write_captions(CAPTIONS[::-1], "other.json")})
    )
    assert mixed.tasks == plan.tasks
    copied = config.model_copy(update={"captions": write_captions(CAPTIONS, "copy.json")})
    assert make_plan(copied).to_parquet() == plan.to_parquet()


def test_the_order_of_sets_does_not_matter(write_captions, repository):
    code = (
        "import hashlib, sys; from ovamgen.config import PlanConfig; "
        "from ovamgen.plan.planning import make_plan; "
        "plan = make_plan(PlanConfig(captions=sys.argv[1], per_class=4)); "
        "print(hashlib.sha256(plan.to_parquet()).hexdigest())"
    )
    digests = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code, write_captions(CAPTIONS)]
        digests.add(subprocess.check_output(command, cwd=repository, env=environment))
    assert len(digests) == 1


def test_a_shorter_plan_is_the_beginning_of_a_longer(write_captions):
    config = PlanConfig(captions=write_captions(CAPTIONS), shard_size=5)
    long = list(make_plan(config).specs)
    short = list(make_plan(config.model_copy(update={"limit": 7})).specs)
    assert short == long[:7]


def test_captions_without_targets_make_an_empty_plan(write_captions):
    plan = make_plan(PlanConfig(captions=write_captions([(1, 1, "a hot dog")])))
    assert plan.tasks == ()
    assert len(plan.rejections) == 1
    assert Plan.from_parquet(plan.to_parquet()) == plan


def test_the_models_tokenizer_is_used(write_captions, repository):
    url = write_captions([(1, 1, "photograph of a cat"), (2, 2, "xyz " * 30 + "cat")])
    # The miniature's vocabulary has no "xyz": three tokens a word, ninety before the cat.
    assert len(list(make_plan(PlanConfig(captions=url)).specs)) == 2
    plan = make_plan(PlanConfig(captions=url), model_id=str(repository / "tests/golden/tiny-sd"))
    assert [r.reason for r in plan.rejections] == [Reason.BEYOND_TOKENS]


def test_coco_cap_needs_instances_and_nothing_else(write_captions, write_instances):
    captions = write_captions([(1, 1, "A cat."), (2, 2, "A dog"), (3, 1, "It")])
    instances = write_instances([(1, "cat", 6000.0, 0), (2, "dog", 6000.0, 1)])
    config = PlanConfig(captions=captions, instances=instances, preset="coco-cap", limit=1)
    plan = make_plan(config)
    assert [spec.prompt for spec in plan.specs] == ["a cat"]
    assert [r.reason for r in plan.rejections] == [Reason.NO_INSTANCE, Reason.LIMIT_REACHED]
    assert set(plan.inputs) == {"captions", "instances"}
    with pytest.raises(PlanError, match=r"plan.instances"):
        make_plan(config.model_copy(update={"instances": None}))
    for change in ({"per_class": 3}, {"min_area": 1.0}, {"classes": ("cat",)}, {"max_targets": 2}):
        with pytest.raises(ConfigError, match=f"plan.{next(iter(change))}"):
            make_plan(config.model_copy(update=change))


def test_differences_name_what_changed(write_captions):
    config = PlanConfig(captions=write_captions(CAPTIONS), limit=3)
    plan = make_plan(config)
    assert plan.differences(plan_settings(config), plan.inputs, VOC) == []
    moved = config.model_copy(update={"captions": "elsewhere.json"})
    assert plan.differences(plan_settings(moved), plan.inputs, VOC) == []
    other = config.model_copy(update={"seed": 9, "classes": ("cat",), "limit": None})
    assert plan.differences(plan_settings(other), {"captions": "abc", "instances": "def"}, VOC) == [
        "classes: [] -> ['cat']",
        f"inputs.captions: {plan.inputs['captions']} -> abc",
        "inputs.instances: None -> def",
        "limit: 3 -> None",
        "seed: 0 -> 9",
    ]
    again = Plan.from_parquet(plan.to_parquet())
    assert again.differences(plan_settings(config), plan.inputs, VOC) == []


def test_estimate_grows_with_pixels_and_images(write_captions):
    plan = make_plan(PlanConfig(captions=write_captions(CAPTIONS), shard_size=10))
    small, native = estimate(plan, 256, 512), estimate(plan, 512, 512)
    assert (native.images, native.shards) == (27, 3)
    # 102,100 bytes of pictures for each image at 512 x 512; text and headers do not grow.
    assert native.bytes - small.bytes == 27 * 102_100 // 2
    # "a 1 000-sample shard is roughly 0.1 GB" (conventions 3.1)
    assert 0.09e9 < native.bytes / 27 * 1000 < 0.12e9


TARGETS = st.lists(st.sampled_from(VOC_CLASSES), min_size=1, max_size=3, unique=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def plans(draw):
    tasks = []
    for shard_index in range(draw(st.integers(0, 3))):
        sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        keys = iter([f"{shard_index:06d}{index:05d}" for index in range(sum(sizes))])
        batches = [
            [
                {
                    "key": next(keys),
                    "prompt": draw(TEXT),
                    "caption": draw(TEXT),
                    "targets": draw(TARGETS),
                    "seed": draw(st.integers(0, 2**63 - 1)),
                    "caption_id": draw(INT64),
                    "image_id": draw(INT64),
                    "word_included": draw(st.booleans()),
                    "word_included_published": draw(st.booleans()),
                }
                for _ in range(size)
            ]
            for size in sizes
        ]
        tasks.append(batches)
    rejections = draw(
        st.lists(
            st.tuples(INT64, INT64, TEXT, st.sampled_from(Reason), TARGETS | st.just([])),
            max_size=4,
        )
    )
    inputs = draw(st.dictionaries(TEXT, TEXT, max_size=2))
    values = st.none() | st.integers() | st.booleans() | TEXT | st.lists(TEXT, max_size=2)
    return tasks, rejections, inputs, draw(st.dictionaries(TEXT, values, max_size=3))


def plan_of(parts):
    """The records, made outside of the strategy: run-time type checks draw lots."""
    tasks, rejections, inputs, settings_ = parts
    return Plan(
        tasks=tuple(
            ShardTask(
                shard_index=index,
                batches=tuple(
                    tuple(
                        SampleSpec(
                            **{**spec, "targets": tuple(target_of(v) for v in spec["targets"])}
                        )
                        for spec in batch
                    )
                    for batch in batches
                ),
            )
            for index, batches in enumerate(tasks)
        ),
        rejections=tuple(
            Rejection(
                caption_id=caption_id,
                image_id=image_id,
                caption=caption,
                reason=reason,
                class_names=tuple(voc.name for voc in classes),
            )
            for caption_id, image_id, caption, reason, classes in rejections
        ),
        inputs=inputs,
        settings=settings_,
    )


@settings(max_examples=60, deadline=None)
@given(parts=plans())
def test_plans_come_back_from_parquet(parts):
    plan = plan_of(parts)
    data = plan.to_parquet()
    assert Plan.from_parquet(data) == plan
    assert Plan.from_parquet(data).to_parquet() == data


def packed():
    spec = SampleSpec(
        key="00000000000",
        prompt="a cat",
        caption="A cat.",
        targets=(Target(class_id=8, class_name="cat", phrase="cat"),),
        seed=5,
        caption_id=1,
        image_id=2,
        word_included=True,
        word_included_published=True,
    )
    rejection = Rejection(
        caption_id=3, image_id=-1, caption="x", reason=Reason.EMPTY, class_names=()
    )
    task = ShardTask(shard_index=0, batches=((spec,),))
    return Plan(tasks=(task,), rejections=(rejection,), inputs={"captions": "ab"}, settings={})


def test_one_row_a_caption_with_typed_columns(tmp_path):
    path = tmp_path / "plan.parquet"
    path.write_bytes(packed().to_parquet())
    table = pq.read_table(path)
    assert table.to_pylist()[0] == {
        "key": "00000000000",
        "shard_index": 0,
        "batch_index": 0,
        "reason": "",
        "caption_id": 1,
        "image_id": 2,
        "caption": "A cat.",
        "prompt": "a cat",
        "class_ids": [8],
        "class_names": ["cat"],
        "phrases": ["cat"],
        "seed": 5,
        "word_included": True,
        "word_included_published": True,
    }
    assert table.to_pylist()[1]["reason"] == "empty"
    assert sum(column.null_count for column in table.columns) == 0
    header = json.loads(table.schema.metadata[b"ovamgen.plan"])
    assert header == {"schema_version": 1, "inputs": {"captions": "ab"}, "settings": {}}


def rewritten(change=None, header=None):
    """The plan of `packed` with columns or metadata changed behind its back."""
    table = pq.read_table(io.BytesIO(packed().to_parquet()))
    rows = [row | (change or {}) if row["key"] else row for row in table.to_pylist()]
    metadata = dict(table.schema.metadata)
    if header is not None:
        metadata[b"ovamgen.plan"] = header
    changed = type(table).from_pylist(rows, table.schema.with_metadata(metadata))
    sink = io.BytesIO()
    pq.write_table(changed, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "cannot be read"),
        (b"PAR1 no", "cannot be read"),
        (packed().to_parquet()[:-20], "cannot be read"),
        (rewritten({"key": "00000000001"}), "shard 0 are not in order"),
        (rewritten({"shard_index": 1}), "not in order"),
        (rewritten({"batch_index": 1}), "not in order"),
        (rewritten({"phrases": []}), "cannot be read"),
        (rewritten({"reason": "bad luck"}), "bad luck"),
        (rewritten(header=b'{"schema_version": 2}'), "schema version 1, got 2"),
        (rewritten(header=b"[]"), "schema version 1, got None"),
        (rewritten(header=b"{"), "cannot be read"),
        (rewritten(header=b'{"schema_version": 1}'), "inputs or settings"),
    ],
)
def test_damaged_plans_are_refused(data, complaint):
    with pytest.raises(PlanError) as caught:
        Plan.from_parquet(data)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_parquet_files_are_no_plans():
    sink = io.BytesIO()
    pq.write_table(pa.table({"caption": ["x"]}), sink)
    with pytest.raises(PlanError, match="another Parquet file"):
        Plan.from_parquet(sink.getvalue())


@settings(max_examples=200, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_a_changed_byte_is_found_or_harmless(place, value):
    plan = packed()
    data = np.frombuffer(plan.to_parquet(), np.uint8).copy()
    data[int(place * len(data))] ^= value
    try:
        read = Plan.from_parquet(data.tobytes())
    except PlanError:
        return
    assert (read.tasks, read.rejections) == (plan.tasks, plan.rejections)


PLAN_IN_TIME = """
import hashlib, json, sys, time
from ovamgen.config import PlanConfig
from ovamgen.plan.planning import make_plan
start = time.process_time()
plan = make_plan(PlanConfig(captions=sys.argv[1], per_class=100))
seconds = time.process_time() - start
names = [target.class_name for spec in plan.specs for target in spec.targets]
counts = {name: names.count(name) for name in names}
digest = hashlib.sha256(plan.to_parquet()).hexdigest()
print(json.dumps([seconds, len(list(plan.specs)), len(plan.rejections), counts, digest]))
"""
REAL_PLAN = "207bc1212c6546f12ff2fa648a43207b315d645886c5e15027da7196e2a93ebe"
"""sha256 of that plan's file, made before plans were written in parts (pyarrow 26)."""


def test_real_captions_are_planned_in_time(shared, repository):
    # A process of its own: run-time type checks would be timed otherwise.
    url = str(shared / "data/coco/captions_val2017.json")
    command = [sys.executable, "-c", PLAN_IN_TIME, url]
    output = subprocess.run(command, cwd=repository, check=True, capture_output=True).stdout
    seconds, samples, rejected, counts, digest = json.loads(output)
    assert not pa.__version__.startswith("26.") or digest == REAL_PLAN
    assert seconds < 5
    assert samples + rejected == 25_014
    assert max(counts.values()) == 100
    # Two classes are named less often than that; all others fill their quota.
    assert {name for name, count in counts.items() if count < 100} == {"diningtable", "pottedplant"}
    assert len(counts) == 20
