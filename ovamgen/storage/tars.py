"""Tars from anywhere, read by `tarfile` without what it would take for a damaged or forged one."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from ovamgen.bounds import MAX_HEADER_BYTES, MAX_MEMBER_BYTES
from ovamgen.errors import ShardError

BROKEN_TAR = (
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,
    MemoryError,
    RecursionError,
)
"""What `tarfile` raises on damaged files; words about a member may follow words about it."""


class BoundedHeader(tarfile.TarInfo):
    """A header whose name, and what else stands before the member, may not be without end.

    `tarfile` reads whatever size such words claim to have, and holds them several times.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        words = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.SOLARIS_XHDTYPE)
        if self.type in (*words, tarfile.XHDTYPE, tarfile.XGLTYPE) and self.size > MAX_HEADER_BYTES:
            raise tarfile.HeaderError(
                f"a name, or words about a member, of {self.size} bytes; at most "
                f"{MAX_HEADER_BYTES} are read"
            )
        return super()._proc_member(tar)  # type: ignore[misc]  # of tarfile, and not typed

    def _proc_gnusparse_10(self, *_: object) -> None:
        # a list of any length, at the place of the content
        raise tarfile.HeaderError("a sparse file")


def is_plain_member(header: tarfile.TarInfo, size_bytes: int) -> bool:
    """Whether a member is a file whose bytes all stand in the tar.

    A sparse one of a few bytes unpacks to as many zeros as it says.

    Args:
        header: of the member.
        size_bytes: of the tar.
    """
    return (
        header.isreg()
        and not header.issparse()
        and 0 <= header.size <= size_bytes - header.offset_data
    )


def plain_members(file: BinaryIO, name: str, most: int) -> Iterator[tarfile.TarInfo]:
    """The headers of a shard's members, in order; between two of them `file` may be read.

    Args:
        file: the tar, from its beginning.
        name: what messages call it.
        most: members that it may hold; they are counted before they are looked at.

    Raises:
        ShardError: it is damaged, or holds more members or something else than whole files.
    """
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedHeader) as tar:
            left = most
            while (header := tar.next()) is not None:
                left -= 1
                if left < 0:
                    raise ShardError(f"{name} must hold at most {most} members, got more")
                if not is_plain_member(header, size):
                    raise ShardError(
                        f"{name} must hold plain files only, each whole, "
                        f"got {header.name!a:.80} of {header.size} bytes"
                    )
                yield header
                tar.members.clear()  # type: ignore[attr-defined]  # public, not typed; or headers pile up
    except BROKEN_TAR as error:
        raise ShardError(f"{name} cannot be read as a tar: {error}") from None


def read_member(file: BinaryIO, header: tarfile.TarInfo, name: str) -> bytes:
    """The content of a member that `plain_members` found.

    Args:
        file: the tar.
        header: of the member.
        name: what messages call the tar.

    Raises:
        ShardError: it is larger than a member may be, or cannot be read.
    """
    if header.size > MAX_MEMBER_BYTES:
        raise ShardError(
            f"{name} must hold members of at most {MAX_MEMBER_BYTES} bytes, "
            f"{header.name!a:.80} has {header.size}"
        )
    try:
        file.seek(header.offset_data)
        content = file.read(header.size)
    except BROKEN_TAR as error:
        raise ShardError(f"{name} cannot be read as a tar: {error}") from None
    if len(content) != header.size:
        raise ShardError(f"{name} was cut: {header.name!a:.80} has {len(content)} bytes")
    return content
