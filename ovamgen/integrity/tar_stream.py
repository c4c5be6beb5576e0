"""A tar read once from its beginning to its end: its members, and the digests of all its bytes.

Stricter than `ovamgen.shards.reader`: every byte must be as `ovamgen.shards.writer` leaves it. No
more than one member is in memory, and none that is larger than the tar has room for.
"""

from __future__ import annotations

import errno
import hashlib
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from ovamgen.bounds import MAX_MEMBER_BYTES
from ovamgen.errors import ShardError
from ovamgen.shards.writer import TarDigest, tar_header

_READ_BYTES = 1 << 20
_NOTHING = bytes(tarfile.BLOCKSIZE)


class DamagedTarError(ShardError):
    """The bytes are not those of a tar that ovamgen wrote."""


class TarStream:
    """The members of a tar of known size; `digest` afterwards."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        """Reads the file from where it stands; the size is what the store says of it."""
        self._file = file
        self._size = size_bytes
        self._read = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of every member, in order.

        Raises:
            DamagedTarError: a byte is not as the writer leaves it; the place is named.
        """
        while True:
            start = self._read
            block = self._exactly(tarfile.BLOCKSIZE)
            if block == _NOTHING:
                break
            name, size = self._header(block, start)
            content = self._exactly(size)
            padding = self._exactly(-size % tarfile.BLOCKSIZE)
            if padding.strip(b"\0"):
                raise DamagedTarError(f"expected zeros after {name}, got other bytes")
            yield name, content
        self._end()

    def digest(self) -> TarDigest:
        """Size and digests of the whole file; reads what was not read yet."""
        while self._some(_READ_BYTES):
            pass
        return TarDigest(
            size_bytes=self._read, sha256=self._sha256.hexdigest(), md5=self._md5.hexdigest()
        )

    def _header(self, block: bytes, start: int) -> tuple[str, int]:
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            name, size = header.name, header.size
            same = tar_header(name, size).tobuf(tarfile.USTAR_FORMAT) == block
        except (tarfile.TarError, ValueError, UnicodeError) as error:
            raise DamagedTarError(
                f"expected a tar header at byte {start}, got other bytes: {error}"
            ) from None
        if not same:
            raise DamagedTarError(
                f"expected the header that ovamgen writes for '{name}' at byte {start}, got one "
                "with other fields"
            )
        room = min(MAX_MEMBER_BYTES, self._size - self._read)
        if size > room:
            raise DamagedTarError(
                f"expected a member of at most {room} bytes at byte {start}, '{name}' declares "
                f"{size}"
            )
        return name, size

    def _end(self) -> None:
        """Zeros to the end of the last record of 10240 bytes, and nothing behind them."""
        whole = -(-(self._read + tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        if self._exactly(whole - self._read).strip(b"\0"):
            raise DamagedTarError("expected zeros at the end of the tar, got other bytes")
        if self._some(1):
            raise DamagedTarError(f"expected the tar to end at byte {whole}, got more bytes")

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        left = size
        while left and (part := self._some(min(left, _READ_BYTES))):
            parts.append(part)
            left -= len(part)
        if left:
            raise DamagedTarError(
                f"expected {left} bytes more at byte {self._read}, got the end of the file"
            )
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            if error.errno == errno.EIO:  # the disk's own word for damage
                raise DamagedTarError(f"byte {self._read} cannot be read: {error}") from None
            raise ShardError(f"the tar cannot be read: {error}; run again") from error
        self._read += len(data)
        self._sha256.update(data)
        self._md5.update(data)
        return data
