"""Folders of attempts, with a lock beside each that dies with its process.

A store's unfinished files live here; what a killed process left is told by its free lock.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from ovamgen.storage.filelock import FileLock
from ovamgen.storage.plain_files import folder_below

_NAME = re.compile(r"[0-9a-f]{32}")
"""Whatever else lies there is none of ours, and stays."""


class Attempt:
    """A folder of this attempt alone, from `begin` to `end`."""

    def __init__(self, folder: Path, lock: FileLock) -> None:
        """Take over a folder and its lock; use `begin`."""
        self.folder = folder
        self._lock = lock

    @classmethod
    def begin(cls, parent: Path, make_folder: Callable[[Path], None]) -> Attempt:
        """A new folder, locked.

        Args:
            parent: of all attempts at one place.
            make_folder: makes the parent, which a sweep may have removed.

        Raises:
            OSError: it cannot be made.
        """
        folder = parent / uuid.uuid4().hex
        # a sweep may remove the empty parent between our two steps
        for attempts_left in (2, 1, 0):
            try:
                make_folder(parent)
                lock = FileLock.acquire(_lock_of(folder))
                break
            except FileNotFoundError:
                if not attempts_left:
                    raise
        assert lock is not None, "a fresh name can have no other holder"
        try:
            folder.mkdir()
        except OSError:
            lock.release()
            raise
        return cls(folder, lock)

    def end(self) -> None:
        """Removes the folder and lets go of the lock."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()


def sweep(parent: Path) -> int:
    """The number of dead attempts whose folder was removed; living ones stay.

    Raises:
        OSError: the folders cannot be read.
    """
    names = _attempts(parent)
    if names is None:
        return 0
    removed = 0
    for name in names:
        lock = FileLock.acquire(_lock_of(parent / name))
        if lock is not None:
            shutil.rmtree(parent / name, ignore_errors=True)
            lock.release()
            removed += 1
    try:
        parent.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
    return removed


def dead_attempts(parent: Path) -> list[str]:
    """Names of the folders that `sweep` would remove, ascending; makes and removes nothing.

    Raises:
        OSError: the folders cannot be read.
    """
    names = _attempts(parent) or []
    return [name for name in names if FileLock.holder(_lock_of(parent / name)) is None]


def machine_folder(name: str) -> Path:
    """A folder of this user on this machine, below TMPDIR; made where it is not there.

    Raises:
        OSError: it cannot be made, or what is there belongs to somebody else.
    """
    root = Path(tempfile.gettempdir()) / f"ovamgen-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(root))
    folder = root / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _attempts(parent: Path) -> list[str] | None:
    """Names of the attempts in a folder, ascending; None where there is no folder.

    Raises:
        OSError: it cannot be read, or is a link.
    """
    try:
        with folder_below(parent.parent, [parent.name]) as folder:
            names = {name.removesuffix(".lock") for name in os.listdir(folder)}
    except FileNotFoundError:
        return None
    return sorted(name for name in names if _NAME.fullmatch(name))


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
