"""Locks that vanish with the process that holds them, kill -9 included.

A lock is a file with an advisory ``flock``. It knows nothing of shards or stores.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from ovamgen.storage.plain_files import open_plain

_held: set[int] = set()
"""Descriptors of the locks of this process."""


def _close_inherited() -> None:
    # A flock belongs to the open file, which a forked child shares: without this, a worker that
    # outlives its killed parent would keep the parent's locks. Closing leaves the parent's alone.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_inherited)


class FileLock:
    """A lock that is held from `acquire` to `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over a locked descriptor; use `acquire`."""
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, note: str = "") -> FileLock | None:
        """The lock, or None where another process or another lock of this one holds it.

        Args:
            path: of the lock file, made where it is not there; its folder must be.
            note: written into the file, for whoever is refused to read.

        Raises:
            OSError: the file cannot be made, is a link or has a second name, or the file system has
                no locks.
        """
        while True:
            descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
            try:
                if os.fstat(descriptor).st_nlink > 1:
                    # it is written to: under its other name it is somebody's file
                    raise OSError(errno.EMLINK, f"{path.name} is a file with two names", str(path))
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except OSError:
                os.close(descriptor)
                raise
            # Its holder may have removed the file between our open and our lock: such a lock is on
            # a file that nobody else can find any more.
            if _same_file(path, descriptor):
                break
            os.close(descriptor)
        _held.add(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note.encode(), 0)
        return cls(path, descriptor)

    def release(self) -> None:
        """Remove the file, then let go of the lock: whoever waits on it finds that it is gone.

        In a forked child this does nothing: the lock is its parent's.
        """
        if self._descriptor not in _held:
            return
        self._path.unlink(missing_ok=True)
        _held.discard(self._descriptor)
        os.close(self._descriptor)

    @staticmethod
    def holder(path: Path) -> str | None:
        """The note of the lock's holder, None where nobody holds it; makes no file.

        To find out, the lock is shared for an instant: whoever acquires it then is refused.

        Raises:
            OSError: the file cannot be read, or the file system has no locks.
        """
        try:
            descriptor = open_plain(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 4096, 0).decode("utf-8", "replace")
        finally:
            os.close(descriptor)
        return None


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))
