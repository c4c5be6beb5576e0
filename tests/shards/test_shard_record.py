import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.errors import ShardError
from ovamgen.records import ShardRecord
from ovamgen.shards.output_files import metadata_name, record_name, shard_name
from ovamgen.shards.shard_record import (
    finished_copies,
    finished_shards,
    publish_shard,
    read_record,
    record_from_json,
    record_to_json,
)
from ovamgen.storage.store import LocalStore
from tests.shards.samples import FINGERPRINT, make_failure, make_samples

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "out")


def _publish(store, index=0, **values):
    arguments = {
        "shard_index": index,
        "split": "train",
        "samples": make_samples(2, shard=index),
        "failures": [make_failure(2, shard=index)],
        "fingerprint": FINGERPRINT,
    }
    return publish_shard(store, **arguments | values)


def _contents(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_names():
    assert shard_name("train", 7) == "train-000007.tar"
    assert record_name(123456) == "manifests/123456.json"
    assert metadata_name(0) == "metadata/000000.parquet"


@given(
    numbers=st.lists(st.integers(0, 2**63), min_size=5, max_size=5),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=5, max_size=5),
)
def test_records_round_trip(numbers, texts):
    index, samples, failed, size, metadata_size = numbers
    split, sha256, md5, metadata_sha256, fingerprint = texts
    record = ShardRecord(
        schema_version=1,
        shard_index=index,
        name=shard_name("val" if split else "train", index),
        samples=samples,
        failed=failed,
        size_bytes=size,
        sha256=sha256,
        md5=md5,
        metadata_size_bytes=metadata_size,
        metadata_sha256=metadata_sha256,
        fingerprint=fingerprint,
    )
    assert record_from_json(record_to_json(record)) == record


RECORD = {
    "schema_version": 1,
    "shard_index": 0,
    "name": "train-000000.tar",
    "samples": 2,
    "failed": 0,
    "size_bytes": 10240,
    "sha256": "a",
    "md5": "b",
    "metadata_size_bytes": 5,
    "metadata_sha256": "c",
    "fingerprint": "d",
}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b'{"schema_version":1', "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "must be an object"),
        (json.dumps(RECORD | {"extra": 1}).encode(), "extra"),
        (json.dumps({k: v for k, v in RECORD.items() if k != "md5"}).encode(), "md5"),
        (json.dumps(RECORD | {"samples": "2"}).encode(), "wrong types: samples"),
        (json.dumps(RECORD | {"samples": True}).encode(), "wrong types: samples"),
        (json.dumps(RECORD | {"schema_version": 2}).encode(), "schema version 2"),
        (json.dumps(RECORD | {"shard_index": 1}).encode(), "its own index 1"),
        (json.dumps(RECORD | {"shard_index": -1}).encode(), "its own index -1"),
        *(
            (json.dumps(RECORD | {"name": name}).encode(), "must name its tar")
            for name in ("../x-000000.tar", "a/b-000000.tar", "-000000.tar", "train-000000.tar.gz")
        ),
    ],
)
def test_damaged_records_are_refused(data, message):
    with pytest.raises(ShardError, match=message):
        record_from_json(data)


@given(st.binary(max_size=60))
def test_no_bytes_give_another_error(data):
    with pytest.raises(ShardError):
        record_from_json(data)


def test_a_published_shard_is_what_its_record_says(store, tmp_path):
    record = _publish(store, index=3)
    files = _contents(tmp_path / "out")
    assert sorted(files) == ["manifests/000003.json", "metadata/000003.parquet", "train-000003.tar"]
    tar, metadata = files["train-000003.tar"], files["metadata/000003.parquet"]
    assert record == ShardRecord(
        schema_version=1,
        shard_index=3,
        name="train-000003.tar",
        samples=2,
        failed=1,
        size_bytes=len(tar),
        sha256=hashlib.sha256(tar).hexdigest(),
        md5=hashlib.md5(tar).hexdigest(),
        metadata_size_bytes=len(metadata),
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        fingerprint=FINGERPRINT,
    )
    assert read_record(store, 3) == record
    assert read_record(store, 4) is None


def test_samples_are_taken_one_at_a_time(store):
    """A shard of a thousand samples need not lie in memory."""
    alive = []

    def stream():
        for sample in make_samples(3):
            alive.append(sample.key)
            yield sample

    assert _publish(store, samples=stream()).samples == 3
    assert alive == ["00000000000", "00000000001", "00000000002"]


def test_publishing_again_returns_the_record_and_writes_nothing(store, tmp_path, monkeypatch):
    record = _publish(store)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.*") if p.is_file()}
    assert _publish(store) == record
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_an_attempt_that_was_first_wins(store, monkeypatch):
    """Both looked before either had published; the second finds the record when it creates."""
    create = LocalStore.create
    first = []

    def overtaken(self, name, data):
        if not first:
            first.append(None)
            first[0] = _publish(store)
        return create(self, name, data)

    monkeypatch.setattr(LocalStore, "create", overtaken)
    assert _publish(store) == first[0]


def test_a_finished_shard_is_not_overwritten_by_other_content(store, tmp_path):
    _publish(store)
    before = _contents(tmp_path / "out")
    with pytest.raises(ShardError, match=r"other content \(samples, size_bytes, sha256"):
        _publish(store, samples=make_samples(4))
    with pytest.raises(ShardError, match=r"other content \(fingerprint\)"):
        _publish(store, fingerprint="other")
    assert _contents(tmp_path / "out") == before


def test_samples_of_another_shard_are_refused(store):
    with pytest.raises(ShardError, match="keys of shard 000001 must begin with it"):
        _publish(store, index=1, samples=make_samples(1, shard=0))


def test_finished_shards(store):
    records = {index: _publish(store, index) for index in (0, 1, 3)}
    assert finished_shards(store, "train", range(5), FINGERPRINT) == records
    assert finished_shards(store, "train", [1, 2], FINGERPRINT) == {1: records[1]}
    assert finished_shards(store, "train", [], FINGERPRINT) == {}


def test_shards_of_two_splits_are_not_taken_for_damaged_ones_of_each_other(store):
    records = [_publish(store, 0, split="train"), _publish(store, 1, split="val")]
    assert finished_copies(store, records, FINGERPRINT) == dict(enumerate(records))
    assert finished_copies(store, records, FINGERPRINT) == dict(enumerate(records))


def test_finished_shards_lists_a_few_times_whatever_their_number(store, monkeypatch):
    for index in range(6):
        _publish(store, index, samples=[], failures=[])
    calls = []
    sizes = LocalStore.sizes
    monkeypatch.setattr(LocalStore, "sizes", lambda s, p: calls.append(p) or sizes(s, p))
    monkeypatch.setattr(LocalStore, "size", lambda s, n: pytest.fail("one look-up a shard"))
    assert len(finished_shards(store, "train", range(6), FINGERPRINT)) == 6
    assert len(calls) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda out: (out / "train-000000.tar").unlink(),
        lambda out: os.truncate(out / "train-000000.tar", 1024),
        lambda out: (out / "metadata/000000.parquet").unlink(),
        lambda out: os.truncate(out / "metadata/000000.parquet", 5),
        lambda out: os.truncate(out / "manifests/000000.json", 20),
        lambda out: (out / "manifests/000000.json").write_bytes(b""),
        lambda out: (out / "manifests/000001.json").replace(out / "manifests/000000.json"),
    ],
)
def test_damaged_shards_are_not_finished_and_can_be_made_again(store, tmp_path, damage):
    records = {index: _publish(store, index) for index in range(2)}
    whole = _contents(tmp_path / "out")
    damage(tmp_path / "out")
    found = finished_shards(store, "train", range(2), FINGERPRINT)
    assert 0 not in found
    assert not store.exists("manifests/000000.json")
    for index in {0, 1} - found.keys():
        assert _publish(store, index) == records[index]
    assert _contents(tmp_path / "out") == whole


def test_shards_of_another_run_or_version_are_left_alone(store, tmp_path):
    record = _publish(store)
    with pytest.raises(ShardError, match="another configuration"):
        finished_shards(store, "train", [0], "0" * 64)
    newer = dataclasses.asdict(record) | {"schema_version": 9, "new": None}
    store.put(record_name(0), json.dumps(newer).encode())
    with pytest.raises(ShardError, match="schema version 9"):
        finished_shards(store, "train", [0], FINGERPRINT)
    assert store.exists(record_name(0))


KILLER = """
import os, signal, sys
from tests.shards.samples import FINGERPRINT, make_failure, make_samples
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import LocalStore
from ovamgen.shards.writer import metadata_parquet

metadata_parquet(0, [], [])  # what Arrow loads at its first use, once and not in every child
count, deadly = 0, 0
fork, waitpid = os.fork, os.waitpid

def watched(function):
    def step(*arguments, **keywords):
        global count
        count += 1
        if count == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return step

for name in ("mkdir", "open", "fsync", "replace", "rename", "link", "unlink", "rmdir", "write"):
    setattr(os, name, watched(getattr(os, name)))
samples = make_samples(2)
killed = True
while killed:
    deadly += 1
    child = fork()
    if child == 0:
        count = 0
        publish_shard(
            LocalStore(f"{sys.argv[1]}/{deadly}"), shard_index=0, split="train", samples=samples,
            failures=[make_failure(2)], fingerprint=FINGERPRINT,
        )
        os._exit(0)
    status = waitpid(child, 0)[1]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or status == 0, status
print(deadly)
"""


def test_killed_at_any_step_leaves_no_record_or_a_whole_shard(tmp_path):
    """SIGKILL before every call of the operating system that publishing makes (promise 2)."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    undisturbed = int(done.stdout)
    assert undisturbed > 20
    expected = _contents(tmp_path / str(undisturbed))
    assert sorted(expected) == [
        "manifests/000000.json",
        "metadata/000000.parquet",
        "train-000000.tar",
    ]
    marked = 0
    for step in range(1, undisturbed):
        root = tmp_path / str(step)
        store = LocalStore(root)
        visible = {name: store.read(name) for name in store.list()}
        assert visible.items() <= expected.items(), "nothing half written is ever visible"
        if store.exists(record_name(0)):
            marked += 1
            assert visible == expected
        finished_shards(store, "train", [0], FINGERPRINT)
        _publish(store)
        store.sweep()
        assert _contents(root) == expected, "the same bytes, and nothing left over"
        assert not (root / ".scratch").exists()
    assert 0 < marked < undisturbed - 1
