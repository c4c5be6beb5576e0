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


def members_of(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, bool]]:
    """The headers of a tar's members, in order, and whether each is a file whose bytes all follow.

    A sparse file of a few bytes would unpack to as many zeros as it says. Between two members
    `file` may be read.

    Args:
        file: the tar, from its beginning.

    Raises:
        BROKEN_TAR: one of these, where it is damaged.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedHeader) as tar:
        while (header := tar.next()) is not None:
            is_plain = header.isreg() and not header.issparse()
            yield header, is_plain and 0 <= header.size <= size - header.offset_data
            tar.members.clear()  # type: ignore[attr-defined]  # public, not typed; or headers pile up


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
        for number, (header, is_plain) in enumerate(members_of(file)):
            if number == most:
                raise ShardError(f"{name} must hold at most {most} members, got more")
            if not is_plain:
                raise ShardError(
                    f"{name} must hold plain files only, each whole, "
                    f"got {header.name!a:.80} of {header.size} bytes"
                )
            yield header
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
