"""A store in a folder: atomic renames, durable writes, locks that die with their process."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ovamgen import fault_points
from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.storage.filelock import FileLock
from ovamgen.storage.interface import Store, held_by, parts_of, this_process
from ovamgen.storage.scratch import Attempt, dead_attempts, sweep
from ovamgen.storage.whole_files import is_temporary

_SCRATCH = ".scratch"
_LOCK = ".lock"

_LOCK_ATTEMPTS = 3
_LOCK_PAUSE_SECONDS = 0.05
"""Asking who holds the lock takes it for an instant: a refusal must last to be believed."""


class LocalStore(Store):
    """A folder, local or on a network file system; it is made by the first write.

    Files are written under ``.scratch``, on the same file system, and renamed once they are on
    disk.
    """

    def __init__(self, root: str | Path) -> None:
        """The folder; a relative path counts from the current folder of this process."""
        self._root = Path(root).expanduser().absolute()

    def __repr__(self) -> str:
        return f"LocalStore({str(self._root)!r})"

    @property
    def url(self) -> str:
        """The absolute path."""
        return str(self._root)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every file whose name starts with the prefix, by ascending name."""
        folder, _, _ = prefix.rpartition("/")
        with self._reasons("list", prefix or "the folder"):
            return dict(sorted(_walk(self._path(folder) if folder else self._root, folder, prefix)))

    def size(self, name: str) -> int | None:
        """Bytes of the file, None where there is none."""
        with self._reasons("look up", name):
            try:
                return self._path(name).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def open(self, name: str) -> BinaryIO:
        """The file for reading."""
        with self._reasons("read", name):
            return self._path(name).open("rb")

    def publish_file(self, path: Path, name: str) -> None:
        """Put the file on disk, rename it to its name, put the folder's entry on disk."""
        with self._reasons("write", name):
            target = self._path(name)
            _sync(path)
            self._make_folder(target.parent)
            fault_points.reach("local.synced")
            path.replace(target)
            fault_points.reach("local.renamed")
            _sync(target.parent)

    def put(self, name: str, data: bytes) -> None:
        """Write the file, or replace it."""
        with self.scratch() as folder, self._reasons("write", name):
            path = folder / "content"
            path.write_bytes(data)
            self.publish_file(path, name)

    def create(self, name: str, data: bytes) -> bool:
        """Write the file only if there is none."""
        with self.scratch() as folder, self._reasons("write", name):
            target = self._path(name)
            path = folder / "content"
            path.write_bytes(data)
            _sync(path)
            self._make_folder(target.parent)
            fault_points.reach("local.record_synced")
            try:
                _link(path, target)
            except FileExistsError:
                return False
            fault_points.reach("local.record_linked")
            _sync(target.parent)
            return True

    def delete(self, name: str) -> None:
        """Remove the file, if it is there."""
        with self._reasons("remove", name):
            target = self._path(name)
            if target.exists():
                target.unlink(missing_ok=True)
                _sync(target.parent)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder under ``.scratch``; a lock beside it says that its process is alive."""
        with self._reasons("make", _SCRATCH):
            attempt = Attempt.begin(self._root / _SCRATCH, self._make_folder)
        try:
            yield attempt.folder
        finally:
            attempt.end()

    def sweep(self) -> int:
        """Removes the scratch of processes that are gone."""
        with self._reasons("sweep", _SCRATCH):
            return sweep(self._root / _SCRATCH)

    def leftovers(self) -> list[str]:
        """Scratch whose process is gone, and temporaries of the files beside the shards."""
        with self._reasons("list", _SCRATCH):
            dead = [f"{_SCRATCH}/{name}" for name in dead_attempts(self._root / _SCRATCH)]
            files = [path.name for path in self._root.glob(".*.tmp")]
        return sorted([*dead, *(name for name in files if is_temporary(name))])

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds ``.lock``; it vanishes with this process, however that ends."""
        path = self._root / _LOCK
        is_new = not self._root.exists()
        with self._reasons("lock", _LOCK, ConfigError):
            self._make_folder(self._root)
            note = this_process()
            lock = FileLock.acquire(path, note)
            for _ in range(_LOCK_ATTEMPTS - 1):
                if lock is not None:
                    break
                time.sleep(_LOCK_PAUSE_SECONDS)
                lock = FileLock.acquire(path, note)
        if lock is None:
            raise held_by(self.url, self.holder())
        try:
            yield
        finally:
            lock.release()
            if is_new:
                # a run that failed before its first file leaves no empty folder behind
                with contextlib.suppress(OSError):
                    self._root.rmdir()

    def holder(self) -> str | None:
        """Who holds ``.lock``."""
        with self._reasons("look up", _LOCK):
            return FileLock.holder(self._root / _LOCK)

    def _path(self, name: str) -> Path:
        return self._root.joinpath(*parts_of(name))

    def _make_folder(self, folder: Path) -> None:
        """The folder with its parents, each made durable in the folder above it."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)

    @contextmanager
    def _reasons(
        self, verb: str, name: str, kind: type[OvamgenError] = ShardError
    ) -> Iterator[None]:
        """Errors of the operating system in our words, with what to do about them."""
        try:
            yield
        except OSError as error:
            raise kind(
                f"cannot {verb} {name} in {self.url}: {error.strerror or error}; "
                f"{advice_for(error.errno)}"
            ) from error


def _walk(folder: Path, name: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Name and size of the files under the folder; others than the prefix's are not looked at."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = f"{name}/{entry.name}" if name else entry.name
        if entry.name.startswith(".") or not path.startswith(prefix[: len(path)]):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, path, prefix)
        elif path.startswith(prefix):
            with suppress(FileNotFoundError):  # gone since the listing
                yield path, entry.stat().st_size


def _link(path: Path, target: Path) -> None:
    """Give a finished file a second name that must be new."""
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        # No hard links here (mounted buckets, FAT). Two attempts at one shard write equal bytes,
        # so the small window between the two steps loses nothing.
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        path.replace(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Folders cannot be synced on some network file systems.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def advice_for(code: int | None) -> str:
    """What to do about an error of the operating system."""
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "make room or raise the quota, then run again"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "give a folder that may be written to"
    if code in (errno.ENOTDIR, errno.EEXIST):
        return "a file is where a folder is needed: give another folder"
    if code == errno.ENOENT:
        return "it is not there: check the path; 'ovamgen generate' makes shards that are missing"
    return "see to the file system, then run again"
