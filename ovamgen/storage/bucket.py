"""The objects below a URL: every call tried with patience, every error in our words.

Locks, and who may write, are not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.storage.failures import IncompleteTransferError, no_bucket
from ovamgen.storage.filesystems import (
    CREATES,
    PART_BYTES,
    READ_ONLY,
    TELLS_BUCKETS,
    filesystem_of,
    look_for_bucket,
    write_options,
)
from ovamgen.storage.interface import parts_of
from ovamgen.storage.retrying import Patience, RemoteError
from ovamgen.storage.uploading import upload_bytes, upload_file
from ovamgen.storage.urls import scheme_of, store_of

if TYPE_CHECKING:
    from pathlib import Path

_USERS_FAULTS = ("bucket", "refused", "unreachable")
"""Failures that come from what was given, not from what the store holds."""

T = TypeVar("T")


class Bucket:
    """A bucket, or a folder of one; travels to other processes, which need the same credentials.

    Every method raises ConfigError where bucket, credentials or endpoint are wrong, and ShardError
    where the store failed for longer than it was given.
    """

    def __init__(self, url: str, patience_seconds: float) -> None:
        """Prepares a store; nothing is asked of it yet.

        Raises:
            ConfigError: credentials in the URL, or no library for its scheme.
        """
        self.url = url
        self._scheme = scheme_of(url)
        self._store = store_of(self._scheme)
        self._patience = Patience(patience_seconds, scheme=self._scheme)
        self._seen = self._store in TELLS_BUCKETS
        """Whether what is missing is an object, and not the whole bucket."""
        filesystem_of(url)

    def __getstate__(self) -> dict[str, Any]:
        # whoever sends it to another process has talked to the store
        patience = Patience(self._patience.seconds, scheme=self._scheme, reached=True)
        return {**self.__dict__, "_patience": patience}

    @property
    def creates(self) -> bool:
        """Whether the filesystem can write an object on condition that there is none."""
        return self._store in CREATES

    def check_may_write(self) -> None:
        """Checks that this kind of store takes objects one by one.

        Raises:
            ConfigError: it does not.
        """
        if reason := READ_ONLY.get(self._store):
            raise ConfigError(f"{self.url} can be read only: {reason}")

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of the objects whose name starts with the prefix, by ascending name."""
        filesystem, root = filesystem_of(self.url)

        def find() -> dict[str, dict[str, Any]]:
            found: dict[str, dict[str, Any]] = filesystem.find(root, prefix=prefix, detail=True)
            return found

        found = self._do_if_there("list", prefix or "the files", find) or {}
        if not found:
            self._look_for_bucket()
        start = f"{root.rstrip('/')}/"
        named = {path.removeprefix(start): info for path, info in found.items()}
        return {
            name: int(info["size"])
            for name, info in sorted(named.items())
            # a name with a slash at its end is the mark of an empty folder
            if name.startswith(prefix) and info["type"] == "file" and not name.endswith("/")
        }

    def size(self, name: str) -> int | None:
        """Bytes of the object, None where there is none."""
        filesystem, path = self._place(name)
        info = self._do_if_there("look up", name, lambda: filesystem.info(path))
        if info is None:
            self._look_for_bucket()
        return int(info["size"]) if info and info["type"] == "file" else None

    def read_start(self, name: str) -> bytes | None:
        """The first `PART_BYTES` of the object in one request, None where there is none."""
        filesystem, path = self._place(name)

        def cat() -> bytes:
            data: bytes = filesystem.cat_file(path, start=0, end=PART_BYTES)
            return data

        try:
            return self._patience.call(cat)
        except RemoteError as error:
            if error.failure.kind == "missing":
                self._look_for_bucket()
                return None
            if error.failure.kind == "range":
                # an empty object has no first byte
                return b""
            raise self._error("read", name, error) from None

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """The bytes from a place up to another, all of them."""
        filesystem, path = self._place(name)

        def cat() -> bytes:
            data: bytes = filesystem.cat_file(path, start=start, end=stop)
            if len(data) != stop - start:
                raise IncompleteTransferError(f"{len(data)} of {stop - start} bytes came")
            return data

        return self._do("read", name, cat)

    def put(self, name: str, data: bytes) -> None:
        """Writes the object, or replaces it."""
        filesystem, path = self._place(name)
        self._do("write", name, lambda: upload_bytes(filesystem, path, data, self._store))

    def put_file(self, source: Path, name: str) -> None:
        """Writes the object from a local file."""
        filesystem, path = self._place(name)
        self._do("write", name, lambda: upload_file(filesystem, source, path, self._store))

    def create(self, name: str, data: bytes) -> bool:
        """Writes the object only if there is none; False where there is another.

        One of the same content counts as written by this call: it may have been, and the answer
        was lost. Clients of stores send a request again without telling.
        """
        if not self.creates:
            return self._create_by_looking(name, data)
        filesystem, path = self._place(name)
        options = write_options(self._store)
        try:
            self._patience.call(lambda: filesystem.pipe_file(path, data, mode="create", **options))
        except RemoteError as error:
            if error.failure.kind == "unsupported":
                return self._create_by_looking(name, data)
            if error.failure.kind != "exists":
                raise self._error("write", name, error) from None
            return self.read_start(name) == data
        return True

    def delete(self, name: str) -> None:
        """Removes the object, if it is there."""
        filesystem, path = self._place(name)
        self._do_if_there("remove", name, lambda: filesystem.rm_file(path))

    def _create_by_looking(self, name: str, data: bytes) -> bool:
        """For stores that cannot do it in one step.

        Two attempts at one record write equal bytes, so the small window between the two steps
        loses nothing.
        """
        if self.size(name) is not None:
            return False
        self.put(name, data)
        return True

    def _place(self, name: str) -> tuple[Any, str]:
        parts_of(name)
        return filesystem_of(f"{self.url}/{name}")

    def _do(self, verb: str, name: str, work: Callable[[], T]) -> T:
        try:
            return self._patience.call(work)
        except RemoteError as error:
            raise self._error(verb, name, error) from None

    def _do_if_there(self, verb: str, name: str, work: Callable[[], T]) -> T | None:
        """None where the object is not there."""
        try:
            return self._patience.call(work)
        except RemoteError as error:
            if error.failure.kind == "missing":
                return None
            raise self._error(verb, name, error) from None

    def _look_for_bucket(self) -> None:
        """Once, where something is missing: the answers of some stores do not tell a bucket's."""
        if self._seen:
            return
        filesystem, root = filesystem_of(self.url)
        self._do("look for", "the bucket", lambda: look_for_bucket(filesystem, root, self._store))
        self._seen = True

    def _error(self, verb: str, name: str, error: RemoteError) -> OvamgenError:
        if error.failure.kind == "missing" and verb in ("write", "look for"):
            # no object is missing where one is written
            error = RemoteError(no_bucket(error.failure, self._scheme), error.seconds)
        kind = ConfigError if error.failure.kind in _USERS_FAULTS else ShardError
        return kind(f"cannot {verb} {name} in {self.url}: {error.explanation}")
