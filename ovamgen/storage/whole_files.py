"""Files that are there whole or not at all, also after a kill and after a power cut.

A file's content is on the disk before its name is, and its name before anybody is told of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from ovamgen.errors import ConfigError
from ovamgen.storage.plain_files import open_plain

_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")


def write_whole(
    path: Path,
    content: bytes | Callable[[BinaryIO], object],
    *,
    make_folder: bool = False,
    name: str = "",
) -> None:
    """Writes a file: readers see all of it, or what was there before; so does the disk.

    What killed processes left in the same folder is removed, once in a process.

    Args:
        path: the file; an existing one is replaced.
        content: its bytes, or what writes them.
        make_folder: make the folder where there is none.
        name: what messages call it; its path where not given.

    Raises:
        ConfigError: the place cannot be written.
    """
    temporary = _beside(path)
    try:
        if make_folder:
            make_folders(path.parent)
        _remove_temporaries_once(path.parent.absolute(), os.getpid())
        with temporary.open("wb") as file:
            # says that the writer is alive, to whoever tidies up; some file systems have no locks
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)
    except OSError as error:
        raise ConfigError(f"{name or path} cannot be written: {error.strerror or error}") from None
    finally:
        # what is no folder holds no file either: the reason above is the one to tell
        with contextlib.suppress(OSError):
            temporary.unlink()


def put_in_place(source: Path, target: Path) -> None:
    """Renames a file that is on the disk, on one file system, and puts its new name there too.

    Raises:
        OSError: it cannot be done.
    """
    os.replace(source, target)
    flush(target.parent)


def make_folders(folder: Path) -> None:
    """Makes the folder with its parents, each made durable in the folder above it.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    flush(folder.parent)


def flush(path: Path) -> None:
    """Waits until the disk has a file's content, or the names in a folder.

    Raises:
        OSError: it cannot be done.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush_descriptor(descriptor)
    finally:
        os.close(descriptor)


def flush_descriptor(descriptor: int) -> None:
    """Waits as `flush` does, for what is open."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # folders cannot be flushed on some network file systems
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def check_place(path: Path) -> None:
    """Checks that `write_whole` could write the file: to be asked before long work.

    Raises:
        ConfigError: the place cannot be written.
    """
    temporary = _beside(path)
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder, a file is needed")
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what `write_whole` had not renamed yet."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path) -> None:
    """Removes the files in a folder that writers who are gone had not renamed yet."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if found is None or _is_alive(int(found[1])):
                continue
            # the number may be of a process of another machine: its lock tells
            with contextlib.suppress(OSError), _open_unlocked(Path(entry.path)):
                os.unlink(entry.path)


@contextlib.contextmanager
def _open_unlocked(path: Path) -> Iterator[int]:
    """The descriptor of a regular file that nobody holds a lock on; BlockingIOError otherwise."""
    descriptor = open_plain(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


@lru_cache(maxsize=256)
def _remove_temporaries_once(folder: Path, process: int) -> None:
    """Listing a large folder for every file that is written there would take long."""
    remove_temporaries(folder)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
