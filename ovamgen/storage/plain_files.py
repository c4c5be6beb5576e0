"""Files and folders below a folder, reached step by step and never through a link.

A folder may come from anybody: a link in it leads anywhere, whoever opens a pipe waits for ever,
and a device has no end. The folder itself is the word of whoever gave it, and may be a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_STEP = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

MAX_DEPTH = 16
"""Folders in each other below an output; one that is deeper is not looked into."""

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class NotPlainError(OSError):
    """Something else than a file, or than a folder, is in its place: a link, a pipe, a device."""


@contextmanager
def folder_below(
    root: Path, parts: Sequence[str], make: Callable[[int, str], None] | None = None
) -> Iterator[int]:
    """A descriptor of the folder, open while the block lasts.

    Args:
        root: where the steps begin; may itself be reached through links.
        parts: names of folders, each in the one before it.
        make: makes a folder that is not there, from the descriptor of the one above and its name;
            None: it must be there.

    Raises:
        NotPlainError: a step is a link.
        FileNotFoundError: a folder is not there.
        OSError: a folder cannot be opened.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            try:
                inner = _step(part, os.O_RDONLY | os.O_DIRECTORY, descriptor)
            except FileNotFoundError:
                if make is None:
                    raise
                make(descriptor, part)
                inner = _step(part, os.O_RDONLY | os.O_DIRECTORY, descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def open_plain(name: str | Path, flags: int = os.O_RDONLY, folder: int | None = None) -> int:
    """A descriptor of a regular file; opening never waits.

    Args:
        name: of the file, or its path; the last part of that is not followed.
        flags: as for `os.open`.
        folder: descriptor of the folder that the name is in; None: a path of its own.

    Raises:
        NotPlainError: it is a link, a pipe, a device or a folder.
        OSError: it cannot be opened.
    """
    descriptor = _step(os.fspath(name), flags, folder)
    mode = os.fstat(descriptor).st_mode
    if kind_of(mode):
        os.close(descriptor)
        raise _not_plain(os.fspath(name), mode)
    return descriptor


def read_given(path: str | Path, most_bytes: int) -> bytes:
    """The bytes of a file that somebody named; links are followed, and opening never waits.

    Snapshots of the Hugging Face hub are folders of links.

    Raises:
        NotPlainError: it is a pipe, a device or a folder.
        OSError: it cannot be read, or has more than ``most_bytes``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if kind_of(status.st_mode):
            raise _not_plain(os.fspath(path), status.st_mode)
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        size = max(status.st_size, len(data))
        raise OSError(errno.EFBIG, f"it has {size} bytes, at most {most_bytes} are read")
    return data


def check_given(path: str | Path) -> None:
    """Checks that opening what somebody named would not wait; links are followed.

    Raises:
        NotPlainError: it is a pipe or a device. What is not there, or a folder, opening tells.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if kind_of(mode) and not stat.S_ISDIR(mode):
        raise _not_plain(os.fspath(path), mode)


def size_of_plain(name: str, folder: int) -> int:
    """Bytes of a regular file, by its name in a folder that is open.

    Raises:
        NotPlainError: it is a link, a pipe, a device or a folder.
        FileNotFoundError: it is not there.
    """
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if kind_of(found.st_mode):
        raise _not_plain(name, found.st_mode)
    return found.st_size


def files_below(
    folder: int, name: str, is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Name and entry of what is below a folder that is open, links and pipes included.

    Folders are looked into and left out, but for one that is deeper than `MAX_DEPTH`.

    Args:
        folder: its descriptor.
        name: what names begin with, "" or ending in a slash.
        is_wanted: of a file, or of a folder whose content is then looked at.

    Raises:
        OSError: a folder cannot be read.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{name}{entry.name}"
            if not is_wanted(path):
                continue
            if not entry.is_dir(follow_symlinks=False) or path.count("/") >= MAX_DEPTH:
                yield path, entry
                continue
            with suppress(FileNotFoundError):  # gone since the listing
                inner = _step(entry.name, os.O_RDONLY | os.O_DIRECTORY, folder)
                try:
                    yield from files_below(inner, f"{path}/", is_wanted)
                finally:
                    os.close(inner)


def kind_of(mode: int) -> str:
    """What has this ``st_mode``, in words: ``a symbolic link``; "" for a regular file."""
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no file")


def _step(name: str, flags: int, folder: int | None) -> int:
    try:
        return os.open(name, flags | _STEP, 0o644, dir_fd=folder)
    except OSError as error:
        # of links systems say ELOOP or ENOTDIR, of sockets ENXIO
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EMLINK):
            with suppress(FileNotFoundError, NotADirectoryError):
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                if kind_of(mode):
                    raise _not_plain(name, mode) from None
        raise


def _not_plain(name: str, mode: int) -> NotPlainError:
    code = {stat.S_IFLNK: errno.ELOOP, stat.S_IFDIR: errno.EISDIR}.get(stat.S_IFMT(mode))
    return NotPlainError(code or errno.ENXIO, f"{os.path.basename(name)} is {kind_of(mode)}", name)
