"""The lock of an object store: who is refused, who takes over, who notices."""

import os
import pickle
import re
import subprocess
import sys
import threading
import time

import pytest

from ovamgen.errors import ConfigError, ShardError
from ovamgen.storage import lease
from ovamgen.storage.bucket import Bucket
from ovamgen.storage.lease import LeaseContent, LeaseTimes
from ovamgen.storage.object_store import ObjectStore
from tests.storage.faulty import TWENTY_PERCENT

QUICK = LeaseTimes(renew_seconds=0.2, takeover_seconds=2.0)
LOCK = "corpora/out/.lock"
ME = f"process {os.getpid()} on {os.uname().nodename}"


@pytest.fixture
def store(bucket):
    return ObjectStore(bucket.url, lease_times=QUICK)


@pytest.fixture
def other(bucket):
    return ObjectStore(bucket.url, lease_times=QUICK)


@pytest.fixture
def another_machine(monkeypatch, tmp_path):
    """From now on this process finds no trace of leases that were held here."""
    monkeypatch.setattr(lease, "machine_folder", lambda name: tmp_path)


def test_a_second_run_is_refused_by_name_while_the_first_renews(store, other, bucket):
    with store.lock():
        first = bucket.get(LOCK)
        assert other.holder() == ME
        message = f"another run is writing to {bucket.url} ({ME}): wait for it, stop it, or give"
        with pytest.raises(ConfigError, match=re.escape(message)), other.lock():
            pass
        store.put("a", b"1")
        assert bucket.get(LOCK) != first
        with pytest.raises(ConfigError, match="another run"), other.lock():
            pass
    assert bucket.names() == ["corpora/out/a"]
    with other.lock():
        other.put("a", b"2")
    assert other.holder() is None


@pytest.mark.parametrize("bucket", ["s3", "gs", "az"], indirect=True)
def test_of_two_that_come_at_once_one_wins(bucket):
    began, won, refused = threading.Barrier(4), [], []

    def run():
        store = ObjectStore(bucket.url, lease_times=QUICK)
        began.wait()
        try:
            with store.lock():
                won.append(1)
                began.wait()
        except ConfigError:
            refused.append(1)
            began.wait()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), len(refused)) == (1, 3)
    assert bucket.names() == []


KILLED = """
import os, sys
from ovamgen.storage.store import open_store
with open_store(sys.argv[1]).lock():
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


def test_a_holder_that_died_on_this_machine_is_followed_at_once(bucket):
    patient = ObjectStore(bucket.url, lease_times=LeaseTimes(takeover_seconds=10_000.0))
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, bucket.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == f"{process.pid}\n"
        assert patient.holder() == f"process {process.pid} on {os.uname().nodename}"
        process.kill()
    assert patient.holder() is None
    assert bucket.names() == [LOCK]
    with patient.lock():
        patient.put("a", b"1")
    assert bucket.names() == ["corpora/out/a"]


def test_one_that_died_elsewhere_is_followed_after_the_time_and_not_before(store, bucket):
    bucket.put(LOCK, LeaseContent(holder="process 7 on node1", nonce="0" * 32).to_json())
    assert store.holder() == "process 7 on node1"
    start = time.monotonic()
    with store.lock():
        assert time.monotonic() - start >= QUICK.takeover_seconds
        assert store.holder() == ME
    assert bucket.names() == []


def test_a_waiter_does_not_look_at_clocks_of_others(store, bucket, monkeypatch):
    """Neither the store's dates nor the wall clock matter: this one stands still, then leaps."""
    bucket.put(LOCK, LeaseContent(holder="process 7 on node1", nonce="0" * 32).to_json())
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with store.lock():
        assert LeaseContent.parse(bucket.get(LOCK)).holder == ME


def test_the_old_holder_notices_before_it_writes_anything(
    store, other, bucket, another_machine, monkeypatch
):
    store.put("before", b"1")
    with store.lock():
        # asleep: its thread does not renew, and then somebody else takes over
        with monkeypatch.context() as sleep:
            sleep.setattr(lease, "is_held", lambda cell, nonce: False)
            time.sleep(2 * QUICK.renew_seconds)
        copy = pickle.loads(pickle.dumps(store))
        with other.lock():
            other.put("theirs", b"2")
            for act in (
                lambda s: s.put("mine", b"3"),
                lambda s: s.create("mine", b"3"),
                lambda s: s.delete("theirs"),
                _publish,
            ):
                for writer in (store, copy):
                    with pytest.raises(ShardError, match=f"lost the lock of {bucket.url} to {ME}"):
                        act(writer)
            assert store.read("theirs") == b"2"
            assert bucket.names("corpora/out/") == [
                LOCK,
                "corpora/out/before",
                "corpora/out/theirs",
            ]
        with pytest.raises(ShardError, match="because it was removed"):
            store.put("mine", b"3")
    assert bucket.names() == ["corpora/out/before", "corpora/out/theirs"]


def _publish(store):
    with store.scratch() as folder:
        (folder / "x").write_bytes(b"x")
        store.publish_file(folder / "x", "mine")


def test_leaving_does_not_take_the_lock_of_the_next(store, other, bucket):
    with store.lock():
        theirs = LeaseContent(holder="process 7 on node1", nonce="1" * 32).to_json()
        bucket.put(LOCK, theirs)
    assert bucket.get(LOCK) == theirs


def test_a_damaged_lock_is_one_of_an_unknown_process(store, bucket):
    for content in (b"", b"\xff\x00", b"[1]", b'{"holder": 1, "nonce": "../../x"}', b"[" * 10**5):
        bucket.put(LOCK, content)
        assert store.holder() in ("an unknown process", "1")
    with store.lock():
        assert store.holder() == ME


def test_a_lock_is_held_through_faults(store, other, bucket, short_pauses):
    with bucket.faulty(TWENTY_PERCENT) as proxy, store.lock():
        seen = set()
        while proxy.met["requests"] < 40 or len(seen) < 2:
            seen.add(bucket.get(LOCK))
            store.put("a", b"1")
        with pytest.raises(ConfigError, match="another run"), other.lock():
            pass
    assert bucket.names() == ["corpora/out/a"]


def test_a_store_without_conditional_creation_leaves_one_of_two(monkeypatch):
    """Both find nothing and write: the lease is the last one's, and the other notices."""
    url = "memory://leases/out"
    first, second = (ObjectStore(url, lease_times=QUICK) for _ in range(2))
    size = Bucket.size
    monkeypatch.setattr(
        Bucket, "size", lambda self, name: None if name == ".lock" else size(self, name)
    )
    with first.lock():
        with second.lock():
            second.put("a", b"2")
            with pytest.raises(ShardError, match="lost the lock"):
                first.put("a", b"1")
        assert second.read("a") == b"2"
