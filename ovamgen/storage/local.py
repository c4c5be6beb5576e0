"""A store in a folder: atomic renames, durable writes, locks that die with their process."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ovamgen import fault_points
from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.storage.filelock import FileLock
from ovamgen.storage.interface import Store, held_by, parts_of, this_process
from ovamgen.storage.plain_files import (
    NotPlainError,
    files_below,
    folder_below,
    kind_of,
    open_plain,
    size_of_plain,
)
from ovamgen.storage.scratch import Attempt, dead_attempts, sweep
from ovamgen.storage.whole_files import (
    flush,
    flush_descriptor,
    is_temporary,
    make_folders,
)

_SCRATCH = ".scratch"
_LOCK = ".lock"

_LOCK_ATTEMPTS = 3
_LOCK_PAUSE_SECONDS = 0.05
"""Asking who holds the lock takes it for an instant: a refusal must last to be believed."""


class LocalStore(Store):
    """A folder, local or on a network file system; it is made by the first write.

    Files are written under ``.scratch``, on the same file system, and renamed once they are on
    disk. Nothing below the folder is reached through a link, and only regular files are opened.
    """

    readers = 1
    """Threads that read from a disk mostly wait for each other, at twice the processor time."""

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
        found = {}
        with self._reasons("list", prefix or "the folder"):
            for name, entry in self._below(prefix):
                with contextlib.suppress(FileNotFoundError):  # gone since the listing
                    status = entry.stat(follow_symlinks=False)
                    if kind := kind_of(status.st_mode):
                        raise NotPlainError(errno.ELOOP, f"{name} is {kind}")
                    found[name] = status.st_size
        return dict(sorted(found.items()))

    def irregular(self) -> dict[str, str]:
        """What is neither a file nor a folder, in words, by ascending name."""
        found = {}
        with self._reasons("list", "the folder", ConfigError):
            for name, entry in self._below("", hidden=True):
                if entry.is_file(follow_symlinks=False):  # known from the listing
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found[name] = kind_of(entry.stat(follow_symlinks=False).st_mode)
        return dict(sorted(found.items()))

    def size(self, name: str) -> int | None:
        """Bytes of the file, None where there is none."""
        with self._reasons("look up", name):
            try:
                with self._folder_of(name) as (folder, last):
                    return size_of_plain(last, folder)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def open(self, name: str) -> BinaryIO:
        """The file for reading."""
        with self._reasons("read", name), self._folder_of(name) as (folder, last):
            return os.fdopen(open_plain(last, folder=folder), "rb")

    def publish_file(self, path: Path, name: str) -> None:
        """Put the file on disk, rename it to its name, put the folder's entry on disk."""
        with self._reasons("write", name):
            flush(path)
            with self._folder_of(name, make=True) as (folder, last):
                fault_points.reach("local.synced")
                os.replace(path, last, dst_dir_fd=folder)
                fault_points.reach("local.renamed")
                flush_descriptor(folder)

    def put(self, name: str, data: bytes) -> None:
        """Write the file, or replace it."""
        with self.scratch() as folder, self._reasons("write", name):
            path = folder / "content"
            path.write_bytes(data)
            self.publish_file(path, name)

    def create(self, name: str, data: bytes) -> bool:
        """Write the file only if there is none."""
        with self.scratch() as folder, self._reasons("write", name):
            path = folder / "content"
            path.write_bytes(data)
            flush(path)
            with self._folder_of(name, make=True) as (target, last):
                fault_points.reach("local.record_synced")
                try:
                    _link(path, last, target)
                except FileExistsError:
                    return False
                fault_points.reach("local.record_linked")
                flush_descriptor(target)
            return True

    def delete(self, name: str) -> None:
        """Remove the file, if it is there."""
        with (
            self._reasons("remove", name),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            self._folder_of(name) as (folder, last),
        ):
            os.unlink(last, dir_fd=folder)
            flush_descriptor(folder)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder under ``.scratch``; a lock beside it says that its process is alive."""
        with self._reasons("make", _SCRATCH):
            attempt = Attempt.begin(self._root / _SCRATCH, self._make_scratch)
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
        self.check_regular()
        with self._reasons("lock", _LOCK, ConfigError):
            make_folders(self._root)
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

    def _make_scratch(self, folder: Path) -> None:
        """The folder of all attempts; a link in its place is refused."""
        make_folders(self._root)
        with folder_below(self._root, [folder.name], _make_inner):
            pass

    @contextmanager
    def _folder_of(self, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that a file is in, and the last part of its name."""
        *folders, last = parts_of(name)
        if make:
            make_folders(self._root)
        with folder_below(self._root, folders, _make_inner if make else None) as folder:
            yield folder, last

    def _below(
        self, prefix: str, *, hidden: bool = False
    ) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Name and entry of what begins with the prefix; nothing else is looked at."""
        *folders, _ = prefix.split("/")

        def is_wanted(path: str) -> bool:
            is_hidden = path.rpartition("/")[2].startswith(".") and not hidden
            return not is_hidden and path.startswith(prefix[: len(path)])

        start = "".join(f"{part}/" for part in folders)
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            folder_below(self._root, folders) as folder,
        ):
            yield from files_below(folder, start, is_wanted)

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


def _make_inner(folder: int, name: str) -> None:
    """A folder in another, made durable there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    flush_descriptor(folder)


def _link(path: Path, name: str, folder: int) -> None:
    """Give a finished file a second name that must be new."""
    try:
        os.link(path, name, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        # No hard links here (mounted buckets, FAT). Two attempts at one shard write equal bytes,
        # so the small window between the two steps loses nothing.
        try:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            os.replace(path, name, dst_dir_fd=folder)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None


def advice_for(code: int | None) -> str:
    """What to do about an error of the operating system."""
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "make room or raise the quota, then run again"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "give a folder that may be written to"
    if code in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
        return "an output holds files and folders alone: remove it, or put the file itself there"
    if code in (errno.ENOTDIR, errno.EEXIST):
        return "a file is where a folder is needed: give another folder"
    if code == errno.ENOENT:
        return "it is not there: check the path; 'ovamgen generate' makes shards that are missing"
    return "see to the file system, then run again"
