import os
import signal
import subprocess
import sys

import pytest

from ovamgen.storage.filelock import FileLock

HOLD = """
import os, sys
from pathlib import Path
from ovamgen.storage.filelock import FileLock
lock = FileLock.acquire(Path(sys.argv[1]), "the child")
print("held" if lock else "refused", flush=True)
if "fork" in sys.argv and os.fork() == 0:
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


def _child(path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_second_lock_is_refused_also_in_the_same_process(tmp_path):
    path = tmp_path / "lock"
    lock = FileLock.acquire(path, "one")
    assert lock is not None
    assert FileLock.acquire(path) is None
    assert FileLock.holder(path) == "one", "a refusal leaves the note"
    lock.release()
    assert not path.exists()
    assert FileLock.holder(path) is None


def test_asking_for_the_holder_makes_no_file(tmp_path):
    assert FileLock.holder(tmp_path / "lock") is None
    assert FileLock.holder(tmp_path / "no" / "lock") is None
    assert list(tmp_path.iterdir()) == []


def test_lock_of_a_killed_process_is_free_and_its_note_replaced(tmp_path):
    path = tmp_path / "lock"
    with _child(path) as child:
        assert child.stdout.readline() == "held\n"
        assert FileLock.acquire(path) is None
        assert FileLock.holder(path) == "the child"
        child.kill()
        child.wait()
    assert path.exists()
    assert FileLock.holder(path) is None
    lock = FileLock.acquire(path, "me")
    assert lock is not None
    assert path.read_text() == "me"
    lock.release()


def test_a_forked_worker_does_not_keep_the_lock_of_its_killed_parent(tmp_path):
    path = tmp_path / "lock"
    with _child(path, "fork") as child:
        assert child.stdout.readline() == "held\n"
        grandchild = int(child.stdout.readline())
        assert FileLock.holder(path) == "the child"
        child.kill()
        child.wait()
        try:
            os.kill(grandchild, 0)
            assert FileLock.holder(path) is None
        finally:
            os.kill(grandchild, signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the child only exits
def test_release_in_a_forked_child_leaves_the_lock(tmp_path):
    path = tmp_path / "lock"
    lock = FileLock.acquire(path, "parent")
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()
    assert FileLock.holder(path) == "parent"
    lock.release()


def test_a_file_removed_between_open_and_lock_is_not_believed(tmp_path, monkeypatch):
    """The race at a clean exit: the old holder unlinks after our open, before our flock."""
    import fcntl

    path = tmp_path / "lock"
    flock, calls = fcntl.flock, []

    def removed_first(descriptor, operation):
        if not calls:
            path.unlink()
        calls.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    lock = FileLock.acquire(path)
    assert len(calls) == 2
    assert path.exists(), "the lock must be on the file that others find"
    monkeypatch.undo()
    assert FileLock.acquire(path) is None
    lock.release()


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        FileLock.acquire(tmp_path / "no" / "lock")
