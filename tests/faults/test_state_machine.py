"""Publishing, dying, damaging and resuming in any order: what a store holds stays true.

Hypothesis chooses the order; a small model says what must be there.
"""

import hashlib
import os
import signal
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ovamgen import fault_points
from ovamgen.errors import ConfigError, ShardError
from ovamgen.shards.output_files import RECORDS, metadata_name, record_name, shard_name
from ovamgen.shards.shard_record import finished_shards, read_record, record_to_json
from ovamgen.storage.lease import LeaseTimes
from ovamgen.storage.store import LocalStore, ObjectStore
from tests.faults.command import SERVER
from tests.faults.publishing import INDICES, SPLIT, publish, publish_with
from tests.shards.samples import FINGERPRINT

indices = st.sampled_from(INDICES)
OTHER_HEIGHT = 24
"""Makes samples of other bytes and another size."""


@contextmanager
def at_step(step, what):
    """While the block lasts, ``what`` is done at the first passing of the step in this process."""
    before, done = fault_points.reach, []

    def reach(name):
        if name == step and not done:
            done.append(name)
            what()

    fault_points.reach = reach
    try:
        yield done
    finally:
        fault_points.reach = before


class StoreMachine(RuleBasedStateMachine):
    """The model: which records are there, and which of their shards were damaged from outside."""

    STEPS: tuple[str, ...]
    """Those that a publication passes, in order."""
    AFTER_RECORD: tuple[str, ...]
    """Those of them at which the record is there."""

    @initialize()
    def begin(self):
        self.store = self.make_store()
        self.finished = set()
        self.damaged = {}
        """Names of damaged or removed files of finished shards, by shard."""
        self.left_wrong = set()
        """Damaged files that a resumed run leaves until it makes their shard again."""
        self.swept = True
        self.content, self.record_of = wanted()

    def make_store(self):
        raise NotImplementedError

    def die(self, index, step):
        """Whether a process that publishes the shard died at the step: it may not get there."""
        aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        arguments = (self.store.url, index, f"{step}:kill", aws)
        process = SERVER.Process(target=publish_with, args=arguments)
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode != 0

    # ---- what may happen

    def has_damaged_record(self, index):
        return record_name(index) in self.damaged.get(index, ())

    @rule(index=indices)
    def publish(self, index):
        if self.has_damaged_record(index):
            with pytest.raises(ShardError, match="shard record cannot be read"):
                publish(self.store, index)
            return
        assert publish(self.store, index) == self.record_of[index]
        self.is_made(index)

    @rule(index=indices, data=st.data())
    def publish_and_die(self, index, data):
        if self.has_damaged_record(index):
            return
        step = data.draw(st.sampled_from(self.STEPS))
        had_record = index in self.finished
        if self.die(index, step):
            self.swept = False
        if not had_record and step in self.AFTER_RECORD:
            self.is_made(index)

    @rule(index=indices, data=st.data())
    def publish_twice_at_once(self, index, data):
        """A second attempt runs from start to end while the first stands at a step."""
        if self.has_damaged_record(index):
            return
        step = data.draw(st.sampled_from(self.STEPS))
        second = []
        with at_step(step, lambda: second.append(publish(self.store, index))):
            first = publish(self.store, index)
        assert {first, *second} == {self.record_of[index]}
        self.is_made(index)

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def publish_other_content(self, data):
        index = data.draw(st.sampled_from(sorted(self.finished)))
        if self.has_damaged_record(index):
            return
        with pytest.raises(ShardError, match=r"finished by another attempt with other content"):
            publish(self.store, index, OTHER_HEIGHT)

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def lose_a_file(self, data):
        index = data.draw(st.sampled_from(sorted(self.finished)))
        name = data.draw(st.sampled_from([shard_name(SPLIT, index), metadata_name(index)]))
        self.store.delete(name)
        self.damaged.setdefault(index, set()).add(name)

    @precondition(lambda self: self.finished)
    @rule(data=st.data(), kept=st.floats(0, 0.99))
    def cut_a_file(self, data, kept):
        index = data.draw(st.sampled_from(sorted(self.finished)))
        name = data.draw(st.sampled_from([shard_name(SPLIT, index), metadata_name(index)]))
        whole = self.content[name]
        self.store.put(name, whole[: int(len(whole) * kept)])
        self.damaged.setdefault(index, set()).add(name)

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def damage_a_record(self, data):
        index = data.draw(st.sampled_from(sorted(self.finished)))
        self.store.put(record_name(index), b'{"schema_version": 1')
        self.damaged.setdefault(index, set()).add(record_name(index))

    @rule()
    def resume(self):
        found = finished_shards(self.store, SPLIT, INDICES, FINGERPRINT)
        assert found == {i: self.record_of[i] for i in self.finished - self.damaged.keys()}
        self.left_wrong |= set().union(*self.damaged.values())
        self.finished = set(found)
        self.damaged = {}
        assert self.store.list(RECORDS) == [record_name(i) for i in sorted(found)]

    @rule()
    def resume_as_another_run(self):
        whole = {i for i, names in self.damaged.items() if record_name(i) not in names}
        if whole | (self.finished - self.damaged.keys()):
            with pytest.raises(ShardError, match="made by another configuration"):
                finished_shards(self.store, SPLIT, INDICES, "e" * 64)
        # records that are damaged may have been removed on the way
        self.left_wrong |= set().union(*self.damaged.values())
        self.finished = {i for i in self.finished if self.store.exists(record_name(i))}
        self.damaged = {i: n for i, n in self.damaged.items() if i in self.finished}

    @rule()
    def sweep(self):
        self.store.sweep()
        self.swept = True
        assert self.scratch() == []

    @rule()
    def lock(self):
        with self.store.lock():
            with pytest.raises(ConfigError, match="another run"), self.other_store().lock():
                pass
            assert self.store.holder()
        assert self.store.holder() is None

    def is_made(self, index):
        """Its record is there; a shard that had none was made whole."""
        if index not in self.finished:
            self.left_wrong -= {shard_name(SPLIT, index), metadata_name(index)}
            self.finished.add(index)

    # ---- what is always true

    @invariant()
    def records_have_their_whole_files(self):
        for index in self.finished - self.damaged.keys():
            record = read_record(self.store, index)
            assert record == self.record_of[index]
            tar = self.store.read(record.name)
            assert len(tar) == record.size_bytes
            assert hashlib.sha256(tar).hexdigest() == record.sha256
            metadata = self.store.read(metadata_name(index))
            assert hashlib.sha256(metadata).hexdigest() == record.metadata_sha256

    @invariant()
    def nothing_is_there_but_whole_files(self):
        damaged = self.left_wrong.union(*self.damaged.values())
        for name in self.store.list():
            assert name in self.content
            assert name in damaged or self.store.read(name) == self.content[name]
        records = self.store.list(RECORDS)
        assert records == [record_name(index) for index in sorted(self.finished)]
        assert not self.swept or self.scratch() == []


def wanted():
    """Every file of the three shards, and their records, as an undisturbed run leaves them."""
    if not _WANTED:
        with tempfile.TemporaryDirectory() as folder:
            store = LocalStore(folder)
            records = {index: publish(store, index) for index in INDICES}
            _WANTED.append(({name: store.read(name) for name in store.list()}, records))
    content, records = _WANTED[0]
    for index, record in records.items():
        assert content[record_name(index)] == record_to_json(record)
    return content, records


_WANTED = []


class FolderMachine(StoreMachine):
    """A folder; who dies there is killed."""

    STEPS = (
        "tar.begun",
        "tar.sample_added",
        "shard.tar_closed",
        "local.synced",
        "local.renamed",
        "shard.tar_published",
        "shard.metadata_put",
        "local.record_synced",
        "local.record_linked",
        "shard.record_created",
    )
    AFTER_RECORD = ("local.record_linked", "shard.record_created")

    def make_store(self):
        self.folder = tempfile.TemporaryDirectory()
        return LocalStore(Path(self.folder.name) / "out")

    def other_store(self):
        return LocalStore(self.store.url)

    def scratch(self):
        return list((Path(self.store.url) / ".scratch").glob("*"))

    def teardown(self):
        self.folder.cleanup()


class BucketMachine(StoreMachine):
    """A bucket of a real S3 server; who dies there is killed, too."""

    STEPS = (
        "tar.begun",
        "tar.sample_added",
        "shard.tar_closed",
        "remote.uploaded",
        "shard.tar_published",
        "shard.metadata_put",
        "remote.record_begun",
        "shard.record_created",
    )
    AFTER_RECORD = ("shard.record_created",)
    TIMES = LeaseTimes(renew_seconds=0.05, takeover_seconds=5.0)

    def __init__(self, bucket):
        super().__init__()
        self.bucket = bucket

    def make_store(self):
        return self.other_store(f"s3://{self.bucket.name}/{uuid.uuid4().hex}")

    def other_store(self, url=""):
        return ObjectStore(url or self.store.url, lease_times=self.TIMES)

    def scratch(self):
        return self.store.leftovers()


SHORT = settings(
    max_examples=3,
    stateful_step_count=12,
    deadline=None,
    database=None,
    derandomize=True,  # every day the same cases; new ones are for the slow runs
    suppress_health_check=list(HealthCheck),
)
SHORT_BUCKET = settings(SHORT, max_examples=2, stateful_step_count=7)
LONG = settings(SHORT, derandomize=False, max_examples=100, stateful_step_count=30)
LONG_BUCKET = settings(SHORT, derandomize=False, max_examples=30, stateful_step_count=25)


def test_a_folder():
    run_state_machine_as_test(FolderMachine, settings=SHORT)


def test_a_bucket(bucket):
    run_state_machine_as_test(lambda: BucketMachine(bucket), settings=SHORT_BUCKET)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_folder_at_length():
    run_state_machine_as_test(FolderMachine, settings=LONG)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_bucket_at_length(bucket):
    run_state_machine_as_test(lambda: BucketMachine(bucket), settings=LONG_BUCKET)
