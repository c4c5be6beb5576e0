"""Tars from anywhere, read by `tarfile` without what it would take for a damaged or forged one."""

from __future__ import annotations

import tarfile

from ovamgen.bounds import MAX_HEADER_BYTES

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
