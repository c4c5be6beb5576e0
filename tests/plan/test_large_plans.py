"""Plans that are never held whole: the same bytes, any row found again, memory that stays small."""

import hashlib
import io
import json
import subprocess
import sys
from itertools import islice

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.bench.scale.corpora import write_captions
from ovamgen.config import PlanConfig
from ovamgen.errors import PlanError
from ovamgen.plan import candidates as judged
from ovamgen.plan import plan_file
from ovamgen.plan.captions import open_captions
from ovamgen.plan.plan import Plan
from ovamgen.plan.planning import make_plan
from ovamgen.plan.seen import SeenNumbers
from ovamgen.run.inputs import captions_path

GOLDEN = {
    "demo": ({}, "4ae9cba4b07068772487a3f7ba6e02f14b85d1743f8ec0e6e9cce512115dc542"),
    "small shards": (
        {"shard_size": 7, "batch_size": 3, "seed": 5},
        "df59fbb1858f6913fb47fdaaac68574e76c69cc351f0f59fae7179326d0e5331",
    ),
    "quota and limit": (
        {"per_class": 1, "limit": 11, "classes": ("cat", "dog", "sofa")},
        "c529da91e627736d720662f7d736df0eac4d6d65cfa1bb9b6c3c665771c8cc43",
    ),
}
"""sha256 of the demo's plan.parquet, made before plans were written in parts (pyarrow 26)."""


def digest(plan):
    return hashlib.sha256(plan.to_parquet()).hexdigest()


def the_golden_pyarrow(plan):
    created_by = pq.ParquetFile(io.BytesIO(plan.to_parquet())).metadata.created_by
    if "version 26." not in created_by:
        pytest.skip(f"the digests are those of pyarrow 26, here is {created_by}")


@pytest.mark.parametrize("name", GOLDEN)
def test_plans_have_the_bytes_they_always_had(name):
    settings, expected = GOLDEN[name]
    plan = make_plan(PlanConfig(captions=captions_path("demo"), **settings))
    the_golden_pyarrow(plan)
    assert digest(plan) == expected


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    path = tmp_path_factory.mktemp("captions") / "captions.jsonl"
    write_captions(path, 700)
    with path.open("a") as file:
        for number in range(700, 730):
            file.write(json.dumps({"id": number, "caption": f"nothing {number}"}) + "\n")
    return PlanConfig(captions=str(path), shard_size=30, batch_size=8)


@pytest.fixture
def in_small_parts(monkeypatch):
    """Parts so small that a plan of some hundred rows has many of each kind."""
    monkeypatch.setattr(judged, "_CHUNK_ROWS", 64)
    monkeypatch.setattr(judged, "_TABLE_ROWS", 50)
    monkeypatch.setattr(plan_file, "GROUP_ROWS", 120)
    monkeypatch.setattr(plan_file, "_READ_ROWS", 32)


def test_a_plan_in_many_parts_is_the_plan_in_one(captions, request):
    whole = make_plan(captions)
    tasks, rejections = list(whole.tasks), list(whole.rejections)
    request.getfixturevalue("in_small_parts")
    parts = make_plan(captions)
    file = pq.ParquetFile(io.BytesIO(parts.to_parquet()))
    assert [file.metadata.row_group(i).num_rows for i in range(7)] == [120] * 6 + [10]
    assert parts == whole
    assert list(parts.tasks) == tasks
    assert list(parts.rejections) == rejections
    assert (len(tasks), parts.samples, len(rejections)) == (24, 700, 30)


@pytest.mark.usefixtures("in_small_parts")
def test_any_shard_is_found_in_any_order(captions):
    plan = make_plan(captions)
    expected = list(plan.tasks)
    for place in (23, 0, 11, 12, 3, 3, 22, -1):
        assert plan.tasks[place] == expected[place]
    assert list(plan.tasks[5:9]) == expected[5:9]
    assert [r.caption_id for r in plan.rejections[-2:]] == [728, 729]
    with pytest.raises(IndexError):
        plan.tasks[24]
    # two who read by turns do not disturb each other
    assert [a == b for a, b in zip(plan.tasks, plan.tasks, strict=True)] == [True] * 24


def test_the_tasks_that_are_left(captions):
    plan = make_plan(captions)
    left = plan.tasks.without([0, 1, 5, 23])
    assert [task.shard_index for task in left] == [2, 3, 4, *range(6, 23)]
    assert (len(left), left.sizes.sum(), left.sizes.max()) == (20, 600, 30)
    assert len(plan.tasks.without(range(24))) == 0
    assert not plan.tasks.without(range(24))
    assert plan.tasks.without([]) == plan.tasks


def test_a_plan_that_ends_early_is_refused(captions):
    data = make_plan(captions).to_parquet()
    for size in (0, 4, len(data) // 2, len(data) - 1):
        with pytest.raises(PlanError, match="cannot be read"):
            Plan.open(io.BytesIO(data[:size]))


def test_captions_are_taken_one_at_a_time(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("id,caption\n1,a cat\n2,a dog\nthree,a cow\n")
    taken = open_captions(str(path)).captions
    # what is wrong in the third line is not known before it is asked for
    assert [caption.text for caption in islice(taken, 2)] == ["a cat", "a dog"]
    with pytest.raises(PlanError, match="line 4"):
        next(taken)


@given(st.lists(st.integers(0, 2**128 - 1) | st.integers(0, 40), max_size=60))
def test_seen_numbers_are_a_set(numbers):
    seen, reference = SeenNumbers(), set()
    for number in numbers:
        assert (number in seen) == (number in reference)
        seen.add(number)
        reference.add(number)
    assert all(number in seen for number in numbers)


def test_seen_numbers_grow():
    seen = SeenNumbers()
    numbers = [int.from_bytes(hashlib.blake2b(b"%d" % i).digest()[:16], "big") for i in range(5000)]
    for number in numbers[::2]:
        seen.add(number)
    assert all(number in seen for number in numbers[::2])
    assert not any(number in seen for number in numbers[1::2])


PEAK = """
import sys
from ovamgen.bench.scale.planning import measure_plan
small, large = (measure_plan(count).make_private_bytes for count in (20_000, 120_000))
print((large - small) / 100_000)
"""


@pytest.mark.slow
def test_a_caption_takes_some_hundred_bytes_of_memory(repository):
    """As Python objects it takes two thousand; a process of its own, without run-time checks."""
    output = subprocess.check_output([sys.executable, "-c", PEAK], cwd=repository, text=True)
    assert float(output) < 700
