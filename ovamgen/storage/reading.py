"""Reading what is behind a URL: a whole file at once, or parts of a large object as they are asked.

Every read is checked for its length and tried again where that may help.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ovamgen.storage.failures import IncompleteTransferError, failure_of, store_errors
from ovamgen.storage.filesystems import PART_BYTES, filesystem_of
from ovamgen.storage.retrying import Patience, RemoteError
from ovamgen.storage.urls import LOCAL, scheme_of

T = TypeVar("T")

_FIRST_BYTES = 256 << 10
"""Bytes of the first read at a place; each one that goes on from there takes twice as many."""


def read_file(url: str, work: Callable[[Any], T]) -> T:
    """What the work makes of the file at a path or URL; begun anew after an error that may pass.

    Args:
        url: a path, or any URL that fsspec opens.
        work: is given the open binary file, and reads it from its beginning; may be called again.

    Raises:
        ConfigError: credentials in the URL, an unknown scheme, or its library is not installed.
        RemoteError: the file is not there or cannot be read.
    """
    filesystem, path = filesystem_of(url)

    def attempt() -> T:
        with filesystem.open(path, "rb") as file:
            result = work(file)
            size = getattr(file, "size", None)
            if isinstance(size, int) and file.tell() < size and not file.read(1):
                raise IncompleteTransferError(f"{file.tell()} of {size} bytes came")
            return result

    scheme = scheme_of(url)
    if scheme not in LOCAL:
        return Patience(scheme=scheme).call(attempt)
    try:
        return attempt()
    except store_errors() as error:
        # nothing to wait for, and the system says what is wrong
        raise RemoteError(replace(failure_of(error), advice=""), 0.0) from None


def ranged_file(name: str, size: int, fetch: Callable[[int, int], bytes]) -> io.BufferedReader:
    """A file of known size for reading, seekable, whose bytes come as they are asked for.

    At most `PART_BYTES` are held. Reading on reads ahead; after a jump, short reads stay cheap.

    Args:
        name: of the file.
        size: bytes.
        fetch: the bytes from a place up to another; may raise.
    """
    return io.BufferedReader(_RangedFile(name, size, fetch))


class _RangedFile(io.RawIOBase):
    mode = "rb"

    def __init__(self, name: str, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self.name = name
        self._size = size
        self._fetch = fetch
        self._place = 0
        self._block = b""
        self._block_start = 0
        self._next_bytes = _FIRST_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"a place in a file must not be negative, got {start + offset}")
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if not len(view) or self._place >= self._size:
            return 0
        first = self._place - self._block_start
        if not 0 <= first < len(self._block):
            self._load()
            first = self._place - self._block_start
        part = self._block[first : first + len(view)]
        view[: len(part)] = part
        self._place += len(part)
        return len(part)

    def _load(self) -> None:
        end = self._block_start + len(self._block)
        # a step over something small, such as a tar's member, is still reading on
        if 0 <= self._place - end <= self._next_bytes and self._block:
            self._next_bytes = min(2 * self._next_bytes, PART_BYTES)
        else:
            self._next_bytes = _FIRST_BYTES
        stop = min(self._place + self._next_bytes, self._size)
        self._block = self._fetch(self._place, stop)
        self._block_start = self._place
