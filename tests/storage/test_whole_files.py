import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from ovamgen.errors import ConfigError
from ovamgen.storage.whole_files import check_place, remove_temporaries, write_whole


def names(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("content", [b"new", lambda file: file.write(b"new")])
def test_the_file_is_replaced_and_nothing_else_is_left(tmp_path, content):
    path = tmp_path / "scores.json"
    path.write_bytes(b"old and longer")
    write_whole(path, content)
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["scores.json"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), ValueError("a bug")])
def test_what_was_there_stays_where_the_writing_fails(tmp_path, error):
    path = tmp_path / "scores.json"
    path.write_bytes(b"old")

    def fill(file):
        file.write(b"half")
        raise error

    declared = isinstance(error, OSError)
    with pytest.raises(ConfigError if declared else ValueError) as caught:
        write_whole(path, fill)
    if declared:
        assert str(caught.value) == f"{path} cannot be written: No space left"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["scores.json"]


def test_the_folder_is_made_only_where_that_is_asked(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    with pytest.raises(ConfigError, match=r"^the table cannot be written: No such file"):
        write_whole(path, b"x", name="the table")
    assert names(tmp_path) == []
    write_whole(path, b"x", make_folder=True)
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("make_folder", [False, True])
def test_a_file_where_the_folder_should_be(tmp_path, make_folder):
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(ConfigError, match="plain/file cannot be written: "):
        write_whole(tmp_path / "plain" / "file", b"x", make_folder=make_folder)


def test_a_folder_where_the_file_should_be(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError, match="taken cannot be written: "):
        write_whole(tmp_path / "taken", b"x")
    assert names(tmp_path) == ["taken"]


def test_a_place_that_can_be_written_stays_as_it_is(tmp_path):
    check_place(tmp_path / "new.json")
    assert names(tmp_path) == []
    (tmp_path / "old.json").write_bytes(b"old")
    check_place(tmp_path / "old.json")
    assert (tmp_path / "old.json").read_bytes() == b"old"
    assert names(tmp_path) == ["old.json"]


def test_what_dead_writers_left_is_removed_and_nothing_else(tmp_path):
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    dead = int(process.stdout)
    kept = {f".alive.{os.getpid()}.tmp", f".locked.{dead}.tmp", ".notes.tmp", "page.html"}
    for name in (*kept, f".page.html.{dead}.tmp"):
        (tmp_path / name).write_bytes(b"half")
    # as by a process of another machine that has the same number
    with (tmp_path / f".locked.{dead}.tmp").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_temporaries(tmp_path)
    assert set(names(tmp_path)) == kept


def test_the_next_writer_tidies_up(tmp_path):
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from ovamgen.storage.whole_files import write_whole\n"
        "write_whole(Path('bank'), lambda file: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    write_whole(tmp_path / "bank", b"whole")
    assert names(tmp_path) == ["bank"]
