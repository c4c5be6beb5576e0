"""A store behind any URL that fsspec knows: whole-object uploads, conditional creation, a lease.

Unfinished files are kept on the machine that makes them; what is in the bucket was finished.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, cast

from ovamgen import fault_points
from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.storage.bucket import Bucket
from ovamgen.storage.filesystems import PART_BYTES
from ovamgen.storage.interface import MAX_WHOLE_BYTES, Store, held_by, this_process
from ovamgen.storage.lease import HeldError, Lease, LeaseTimes, check_held, holder_in
from ovamgen.storage.local import advice_for
from ovamgen.storage.reading import ranged_file
from ovamgen.storage.retrying import DEADLINE_SECONDS
from ovamgen.storage.scratch import Attempt, machine_folder, sweep

_LOCK = ".lock"
_SCRATCH = "scratch"


class ObjectStore(Store):
    """A bucket, or a folder of one; endpoint and credentials are left to the environment.

    Pickles by its URL: every process that uses it needs the same variables.
    """

    def __init__(
        self,
        url: str,
        *,
        patience_seconds: float = DEADLINE_SECONDS,
        lease_times: LeaseTimes | None = None,
    ) -> None:
        """Prepares a store; nothing is asked of it yet.

        Args:
            url: such as ``s3://bucket/folder``.
            patience_seconds: how long one operation is tried while its errors may pass.
            lease_times: of `lock`.

        Raises:
            ConfigError: credentials in the URL, or no library for its scheme.
        """
        self._bucket = Bucket(url.rstrip("/"), patience_seconds)
        self._lease_times = lease_times or LeaseTimes()
        self._nonce = ""
        """Nonce of the lease under which this store, and every copy of it, writes."""

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    @property
    def url(self) -> str:
        """The URL, without a slash at its end."""
        return self._bucket.url

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every file whose name starts with the prefix, by ascending name."""
        found = self._bucket.sizes(prefix)
        return {
            name: size
            for name, size in found.items()
            if not any(part.startswith(".") for part in name.split("/"))
        }

    def size(self, name: str) -> int | None:
        """Bytes of the file, None where there is none."""
        return self._bucket.size(name)

    def open(self, name: str) -> BinaryIO:
        """The file for reading; its bytes come, checked, as they are asked for."""
        size = self._bucket.size(name)
        if size is None:
            raise self._missing(name)
        read = partial(self._bucket.read_range, name)
        return cast("BinaryIO", ranged_file(name, size, read))

    def read(self, name: str, most_bytes: int = MAX_WHOLE_BYTES) -> bytes:
        """The file's content; one request for a small file."""
        data = self._bucket.read_start(name)
        if data is None:
            raise self._missing(name)
        if len(data) < PART_BYTES:
            self._check_size(name, len(data), most_bytes)
            return data
        return super().read(name, most_bytes)

    def publish_file(self, path: Path, name: str) -> None:
        """Upload the whole file, look at what has arrived, remove it here."""
        self._check_may_write()
        self._bucket.put_file(path, name)
        path.unlink()

    def put(self, name: str, data: bytes) -> None:
        """Write the file, or replace it."""
        self._check_may_write()
        self._bucket.put(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write the file only if there is none; one of the same content counts as this one."""
        self._check_may_write()
        fault_points.reach("remote.record_begun")
        return self._bucket.create(name, data)

    def delete(self, name: str) -> None:
        """Remove the file, if it is there."""
        self._check_may_write()
        self._bucket.delete(name)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder below TMPDIR; a lock beside it says that its process is alive."""
        with self._on_this_machine("make a folder for unfinished files"):
            _sweep_once(os.getpid())
            attempt = Attempt.begin(machine_folder(_SCRATCH), _make_again)
        try:
            yield attempt.folder
        finally:
            attempt.end()

    def sweep(self) -> int:
        """Removes what processes that are gone have left on this machine, of any object store."""
        with self._on_this_machine("remove unfinished files"):
            return sweep(machine_folder(_SCRATCH))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the lease ``.lock``; every write looks whether it is still held."""
        self._bucket.check_may_write()
        cell = _Cell(self._bucket)
        with self._on_this_machine("lock the output", ConfigError):
            try:
                lease = Lease.acquire(
                    cell, this_process(), self._lease_times, exclusive=self._bucket.creates
                )
            except HeldError as error:
                raise held_by(self.url, error.holder) from None
        self._nonce = lease.nonce
        try:
            yield
        finally:
            self._nonce = ""
            lease.release()

    def holder(self) -> str | None:
        """Who holds the lease; one that died on another machine is named until it is taken over."""
        return holder_in(_Cell(self._bucket).read())

    def _check_may_write(self) -> None:
        self._bucket.check_may_write()
        if self._nonce:
            check_held(_Cell(self._bucket), self._nonce, self.url)

    def _missing(self, name: str) -> ShardError:
        return ShardError(
            f"cannot read {name} in {self.url}: there is no such file; check the path; 'ovamgen "
            "generate' makes shards that are missing"
        )

    @contextmanager
    def _on_this_machine(self, verb: str, kind: type[OvamgenError] = ShardError) -> Iterator[None]:
        """Errors of the operating system in our words: the local side of a remote store."""
        try:
            yield
        except OSError as error:
            raise kind(
                f"cannot {verb} on this machine for {self.url}: {error.strerror or error} "
                f"({error.filename}); {advice_for(error.errno)}"
            ) from error


class _Cell:
    """The object of the lease."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def read(self) -> bytes | None:
        return self._bucket.read_start(_LOCK)

    def create(self, data: bytes) -> bool:
        return self._bucket.create(_LOCK, data)

    def write(self, data: bytes) -> None:
        self._bucket.put(_LOCK, data)

    def delete(self) -> None:
        self._bucket.delete(_LOCK)


def _make_again(folder: Path) -> None:
    """The folder of attempts, where a sweep has just removed it."""
    folder.mkdir(mode=0o700, exist_ok=True)


@lru_cache(maxsize=1)
def _sweep_once(process: int) -> None:
    """What was killed on this machine left its files here, and nobody else can see them."""
    sweep(machine_folder(_SCRATCH))
