"""Nothing in an output is reached through a link, and nothing but a regular file is opened."""

import os
import socket

import pytest

from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.storage.filelock import FileLock
from ovamgen.storage.plain_files import MAX_DEPTH, NotPlainError
from ovamgen.storage.store import LocalStore


@pytest.fixture
def outside(tmp_path):
    """A folder of the user's, beside the output."""
    folder = tmp_path / "outside"
    (folder / "Documents").mkdir(parents=True)
    (folder / "Documents" / "letter").write_text("dear")
    (folder / "key").write_text("secret")
    (folder / "poetry.lock").write_text("pinned")
    return folder


def content(folder):
    return {path: path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def store(tmp_path):
    store = LocalStore(tmp_path / "out")
    store.put("manifests/000000.json", b"{}")
    store.put("run.yaml", b"a: 1")
    return store


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path may have 108 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


KINDS = {
    "link to a file": lambda path: path.symlink_to(path.parent.parent / "outside" / "key"),
    "link to a folder": lambda path: path.symlink_to(path.parent.parent / "outside"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to zeros": lambda path: path.symlink_to("/dev/zero"),
    "pipe": make_pipe,
    "socket": make_socket,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_named_and_never_opened(store, outside, kind):
    root = outside.parent / "out"
    (root / "run.yaml").unlink()
    KINDS[kind](root / "run.yaml")
    before = content(outside)
    named = r"run\.yaml is a (symbolic link|pipe|socket)"
    for work in (
        lambda: store.size("run.yaml"),
        lambda: store.open("run.yaml"),
        lambda: store.read("run.yaml"),
        lambda: store.list(),
        lambda: store.sizes("run"),
    ):
        with pytest.raises(ShardError, match=named):
            work()
    with pytest.raises(ConfigError, match=named), store.lock():
        pass
    assert [*store.irregular()] == ["run.yaml"]
    assert store.sizes("manifests/") == {"manifests/000000.json": 2}, "others are not looked at"
    store.put("run.yaml", b"new")
    assert store.read("run.yaml") == b"new", "what is replaced is not followed"
    assert content(outside) == before
    assert not (root / ".lock").exists()


@pytest.mark.parametrize("verb", ["size", "open", "list", "put", "create", "delete"])
def test_a_linked_folder_is_not_entered(store, outside, verb):
    root = outside.parent / "out"
    (root / "manifests" / "000000.json").unlink()
    (root / "manifests").rmdir()
    (root / "manifests").symlink_to(outside)
    before = content(outside)
    work = {
        "size": lambda: store.size("manifests/key"),
        "open": lambda: store.open("manifests/key"),
        "list": lambda: store.list("manifests/"),
        "put": lambda: store.put("manifests/key", b"mine"),
        "create": lambda: store.create("manifests/new", b"mine"),
        "delete": lambda: store.delete("manifests/key"),
    }
    with pytest.raises(ShardError, match="manifests is a symbolic link"):
        work[verb]()
    assert content(outside) == before


def test_a_linked_lock_overwrites_nothing(store, outside):
    root = outside.parent / "out"
    (root / ".lock").symlink_to(outside / "key")
    with pytest.raises(ConfigError, match=r"\.lock is a symbolic link"), store.lock():
        pass
    with pytest.raises(ShardError, match=r"\.lock is a symbolic link"):
        store.holder()
    with pytest.raises(NotPlainError):
        FileLock.acquire(root / ".lock")
    assert (outside / "key").read_text() == "secret"


def test_a_lock_with_a_second_name_overwrites_nothing(store, outside):
    os.link(outside / "key", outside.parent / "out" / ".lock")
    with pytest.raises(ConfigError, match="two names"), store.lock():
        pass
    assert (outside / "key").read_text() == "secret"


def test_linked_scratch_is_neither_used_nor_swept(store, outside):
    root = outside.parent / "out"
    assert store.sweep() == 0, "and the empty folder is gone"
    (root / ".scratch").symlink_to(outside)
    before = content(outside)
    for work in (store.sweep, store.leftovers, lambda: store.put("x", b"x")):
        with pytest.raises(ShardError, match=r"\.scratch is a symbolic link"):
            work()
    assert content(outside) == before


def test_what_is_no_attempt_is_not_swept(store, outside):
    root = outside.parent / "out"
    (root / ".scratch" / "Documents").mkdir()
    (root / ".scratch" / "poetry.lock").touch()
    assert store.leftovers() == []
    assert store.sweep() == 0
    assert sorted(path.name for path in (root / ".scratch").iterdir()) == [
        "Documents",
        "poetry.lock",
    ]


def test_the_folder_itself_may_be_a_link(store, tmp_path):
    (tmp_path / "name").symlink_to(tmp_path / "out")
    named = LocalStore(tmp_path / "name")
    with named.lock():
        assert named.read("run.yaml") == b"a: 1"
        named.put("plan.parquet", b"p")
    assert store.read("plan.parquet") == b"p"


def test_folders_in_folders_are_not_followed_without_end(store, outside):
    deep = outside.parent / "out" / "/".join("d" * (MAX_DEPTH + 2))
    deep.mkdir(parents=True)
    assert [*store.irregular().values()] == ["a folder"]
    with pytest.raises(OvamgenError, match="is a folder"):
        store.list()
