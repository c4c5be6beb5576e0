import fcntl
import os
import pickle
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ovamgen.errors import ConfigError, ShardError
from ovamgen.storage.store import LocalStore, open_store


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "out")


def _everything(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_paths_and_file_urls_name_the_same_folder(tmp_path, form):
    assert open_store(form.format(tmp_path / "a")).url == str(tmp_path / "a")


def test_percent_signs_of_urls_are_decoded_and_those_of_paths_kept(tmp_path):
    assert open_store(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"
    assert open_store(f"{tmp_path}/a%20b").url == f"{tmp_path}/a%20b"


def test_relative_paths_are_fixed_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("out")
    monkeypatch.chdir("/")
    assert store.url == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://bucket/a", "'nosuch' in nosuch://bucket/a"),
        ("", "empty path"),
        ("  ", "empty path"),
        ("file://host/a", "file:///ABSOLUTE/PATH"),
        ("file://", "file:///ABSOLUTE/PATH"),
    ],
)
def test_other_urls_are_refused(url, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        open_store(url)


def test_nothing_is_made_before_the_first_write(store, tmp_path):
    assert store.list() == []
    assert store.size("a") is None
    assert not store.exists("manifests/000000.json")
    assert store.sweep() == 0
    assert store.holder() is None
    store.delete("a")
    with pytest.raises(ShardError, match=r"cannot read a in .*No such file"):
        store.read("a")
    assert _everything(tmp_path) == []


def test_no_more_is_read_than_a_file_may_have(store):
    store.put("a", b"12345")
    assert store.read("a", 5) == b"12345"
    with pytest.raises(ShardError, match=r"a in .* must have at most 4 bytes"):
        store.read("a", 4)


def test_put_read_replace_delete(store, tmp_path):
    store.put("metadata/a", b"one")
    store.put("metadata/a", b"three")
    assert store.read("metadata/a") == b"three"
    assert store.size("metadata/a") == 5
    with store.open("metadata/a") as file:
        file.seek(1)
        assert file.read() == b"hree"
    store.delete("metadata/a")
    assert not store.exists("metadata/a")
    store.sweep()
    assert _everything(tmp_path / "out") == ["metadata"]


def test_list_is_by_prefix_sorted_and_hides_what_is_the_stores_own(store):
    with store.lock(), store.scratch():
        for name in ("train-000001.tar", "train-000000.tar", "manifests/0.json", "a/b/c", "z"):
            store.put(name, name.encode())
        assert store.list() == [
            "a/b/c",
            "manifests/0.json",
            "train-000000.tar",
            "train-000001.tar",
            "z",
        ]
    assert store.list("train-") == ["train-000000.tar", "train-000001.tar"]
    assert store.list("manifests/") == ["manifests/0.json"]
    assert store.list("man") == ["manifests/0.json"]
    assert store.list("a/b") == ["a/b/c"]
    assert store.list("nothing/") == []
    assert store.sizes("z") == {"z": 1}


def test_a_listing_does_not_look_at_what_it_is_not_about(store, monkeypatch):
    """A run has three files for each of many shards; each is asked for in its own listing."""
    for index in range(3):
        store.put(f"train-{index}.tar", b"x")
        store.put(f"manifests/{index}.json", b"x")
    folders = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda p: folders.append(os.fstat(p).st_ino) or scandir(p))
    assert len(store.list("train-")) == len(store.list("manifests/")) == 3
    root = Path(store.url)
    assert folders == [path.stat().st_ino for path in (root, root / "manifests")]


def test_create_only_where_there_is_none(store):
    assert store.create("manifests/0.json", b"first")
    assert not store.create("manifests/0.json", b"second")
    assert store.read("manifests/0.json") == b"first"


def test_of_many_creators_one_wins(store):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.create("record", bytes([n]) * 1000), range(32)))
    assert sum(won) == 1
    assert store.read("record") == bytes([won.index(True)]) * 1000


def test_create_without_hard_links(store, monkeypatch):
    """Mounted buckets have none."""

    def link(source, target, **places):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert store.create("record", b"first")
    assert not store.create("record", b"second")
    assert store.read("record") == b"first"


def test_publish_file_moves_the_scratch(store, tmp_path):
    with store.scratch() as folder:
        path = folder / "x.tar"
        path.write_bytes(b"content")
        store.publish_file(path, "deep/er/x.tar")
        assert not path.exists()
    assert store.read("deep/er/x.tar") == b"content"
    assert not folder.exists()


def test_bytes_are_on_disk_before_the_name_is_there(store, monkeypatch):
    """Content synced, then renamed, then the folder synced: a power cut leaves old or new."""
    steps = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor):
        steps.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def spy_replace(source, target, **directories):
        steps.append(("rename", os.path.basename(target)))
        replace(source, target, **directories)

    store.put("first", b"")
    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    with store.scratch() as folder:
        (folder / "x").write_bytes(b"content")
        steps.clear()
        store.publish_file(folder / "x", "x")
    assert steps == [("sync", "x"), ("rename", "x"), ("sync", "out")]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../b", "a//b", ".", "a\0b"])
def test_names_cannot_leave_the_store(store, name):
    for act in (store.read, store.size, store.delete, lambda n: store.put(n, b"")):
        with pytest.raises(ShardError, match="must be relative"):
            act(name)


def test_stores_travel_to_other_processes(store):
    store.put("a", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert (again.url, again.read("a")) == (store.url, b"1")


def test_scratch_is_gone_after_an_exception(store, tmp_path):
    def half_way():
        with store.scratch() as folder:
            (folder / "half").write_bytes(b"x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_way()
    assert store.sweep() == 0
    assert _everything(tmp_path / "out") == []


CHILD = """
import sys
from ovamgen.storage.store import LocalStore
store = LocalStore(sys.argv[1])
{enter}
    print("in", flush=True)
    sys.stdin.read()
"""


def _child(store, enter):
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(enter=enter), store.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "in\n"
    return process


SCRATCH = "with store.scratch() as folder:\n    (folder / 'half').write_bytes(b'x')"


def test_sweep_removes_scratch_of_the_dead_and_leaves_that_of_the_living(store, tmp_path):
    with _child(store, SCRATCH) as living, _child(store, SCRATCH) as dead:
        dead.kill()
        dead.wait()
        with store.scratch() as mine:
            assert store.sweep() == 1
            assert mine.is_dir()
        assert len(list((tmp_path / "out" / ".scratch").glob("*/half"))) == 1
        living.kill()
        living.wait()
    assert store.sweep() == 1
    assert _everything(tmp_path / "out") == []


def test_second_run_is_refused_by_name_until_the_first_is_gone(store, tmp_path):
    with _child(store, "with store.lock():") as other:
        holder = f"process {other.pid} on {os.uname().nodename}"
        assert store.holder() == holder
        with pytest.raises(ConfigError, match=re.escape(holder)), store.lock():
            pass
        other.kill()
        other.wait()
    assert store.holder() is None
    with store.lock():
        assert store.holder() == f"process {os.getpid()} on {os.uname().nodename}"
    assert _everything(tmp_path / "out") == []


def test_asking_who_runs_does_not_refuse_a_run(store, tmp_path, monkeypatch):
    """Whoever asks shares the lock for an instant; a refusal must last to be believed."""
    (tmp_path / "out").mkdir()
    asking = (tmp_path / "out" / ".lock").open("w")
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: asking.close())
    with store.lock():
        assert asking.closed
        assert store.holder() == f"process {os.getpid()} on {os.uname().nodename}"


def test_a_file_where_the_folder_should_be(tmp_path):
    path = tmp_path / "out"
    path.write_text("x")
    store = LocalStore(path)
    for act in (lambda: store.put("a", b""), lambda: store.create("a", b"")):
        with pytest.raises(ShardError, match="a file is where a folder is needed"):
            act()
    with pytest.raises(ConfigError, match="a file is where a folder is needed"), store.lock():
        pass
    assert store.list() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    store = LocalStore(tmp_path / "out")
    with pytest.raises(ShardError, match="Permission denied; give a folder that may be written"):
        store.put("a", b"")


def test_a_read_only_file_system(tmp_path, monkeypatch):
    def mkdir(path, *arguments, **keywords):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", mkdir)
    store = LocalStore(tmp_path / "out")
    with pytest.raises(ShardError, match="Read-only file system; give a folder that may"):
        store.put("a", b"")
    with pytest.raises(ConfigError, match="Read-only file system"), store.lock():
        pass


def test_a_file_over_the_limit(store, tmp_path):
    """A real refusal of the operating system half way: nothing is visible, nothing is left."""
    store.put("a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(ShardError, match=r"cannot write a in .*File too large; make room"):
            store.put("a", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.read("a") == b"old"
    store.sweep()
    assert _everything(tmp_path / "out") == ["a"]
