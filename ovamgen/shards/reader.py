"""The samples of a tar, strictly: what is not exactly as the writer leaves it is an error.

Training reads through webdataset (`ovamgen.corpus.dataset`); this is for checks and reports.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Collection, Iterator
from typing import BinaryIO

from ovamgen.errors import ShardError

BROKEN_TAR = (tarfile.TarError, OSError, EOFError, ValueError, MemoryError)
"""What `tarfile` raises on damaged files; a name may claim to have gigabytes."""


MAX_MEMBER_BYTES = 256 * 1024**2
"""No member of a sample comes near it; whatever a header declares, no more is read at once."""


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


def read_tar(
    file: BinaryIO, name: str, keys: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members, by extension without the leading dot, of every sample of a tar in order.

    Args:
        file: the tar, from its beginning.
        name: what messages call it.
        keys: only these samples; the contents of others are skipped without being read.

    Raises:
        ShardError: it is cut or damaged, holds something else than files, or members of one key
            that repeat or are not adjacent.
    """
    key, members, seen = "", dict[str, bytes](), set[str]()
    for path, content in _files(file, name, keys):
        new_key, dot, extension = path.partition(".")
        if not dot or "/" in path or (extension in members and new_key == key):
            raise ShardError(f"{name} must hold members KEY.EXTENSION, each once, got '{path}'")
        if new_key != key:
            if key:
                yield key, members
            if new_key in seen:
                raise ShardError(f"{name} has the members of sample {new_key} in two places")
            seen.add(new_key)
            key, members = new_key, {}
        members[extension] = content
    if key:
        yield key, members


def _files(file: BinaryIO, name: str, keys: Collection[str] | None) -> Iterator[tuple[str, bytes]]:
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (header := tar.next()) is not None:
                content = tar.extractfile(header) if is_plain_member(header, size) else None
                if content is None:
                    raise ShardError(
                        f"{name} must hold plain files only, each whole, got '{header.name}' of "
                        f"{header.size} bytes"
                    )
                if keys is None or header.name.partition(".")[0] in keys:
                    if header.size > MAX_MEMBER_BYTES:
                        raise ShardError(
                            f"{name} must hold members of at most {MAX_MEMBER_BYTES} bytes, "
                            f"'{header.name}' has {header.size}"
                        )
                    yield header.name, content.read()
                tar.members.clear()  # type: ignore[attr-defined]  # public, not typed; or headers pile up
    except BROKEN_TAR as error:
        raise ShardError(f"{name} cannot be read as a tar: {error}") from None
    # A tar that was cut between two members reads like a shorter one.
    if size % tarfile.RECORDSIZE:
        raise ShardError(
            f"{name} must be a multiple of {tarfile.RECORDSIZE} bytes long, got {size}: it was cut"
        )
