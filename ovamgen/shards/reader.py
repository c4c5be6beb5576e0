"""The samples of a tar, strictly: what is not exactly as the writer leaves it is an error.

Training reads through webdataset (`ovamgen.corpus.dataset`); this is for checks and reports.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Collection, Iterator
from typing import BinaryIO

from ovamgen.bounds import MAX_MEMBER_BYTES, MAX_MEMBERS, MAX_SHARD_SIZE
from ovamgen.errors import ShardError
from ovamgen.records import is_key
from ovamgen.storage.tars import BROKEN_TAR, BoundedHeader, is_plain_member


def read_tar(
    file: BinaryIO,
    name: str,
    keys: Collection[str] | None = None,
    most_samples: int = MAX_SHARD_SIZE,
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members, by extension without the leading dot, of every sample of a tar in order.

    Args:
        file: the tar, from its beginning.
        name: what messages call it.
        keys: only these samples; the contents of others are skipped without being read.
        most_samples: that it may hold; their members are counted before they are looked at.

    Raises:
        ShardError: it is cut or damaged, holds something else than files, more than the samples
            can have, or members of one key that repeat or are not adjacent.
    """
    key, members, seen = "", dict[str, bytes](), set[str]()
    for path, content in _files(file, name, keys, most_samples * MAX_MEMBERS):
        new_key, dot, extension = path.partition(".")
        if not dot or not is_key(new_key) or "/" in path:
            raise ShardError(
                f"{name} must hold members KEY.EXTENSION, the key in digits, got {path!a:.80}"
            )
        if new_key == key and (extension in members or len(members) == MAX_MEMBERS):
            raise ShardError(
                f"{name} must hold each member once, and at most {MAX_MEMBERS} of a sample, got "
                f"{path!a:.80}"
            )
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


def _files(
    file: BinaryIO, name: str, keys: Collection[str] | None, most: int
) -> Iterator[tuple[str, bytes]]:
    left = most
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedHeader) as tar:
            while (header := tar.next()) is not None:
                left -= 1
                if left < 0:
                    raise ShardError(f"{name} must hold at most {most} members, got more")
                content = tar.extractfile(header) if is_plain_member(header, size) else None
                if content is None:
                    raise ShardError(
                        f"{name} must hold plain files only, each whole, "
                        f"got {header.name!a:.80} of "
                        f"{header.size} bytes"
                    )
                if keys is None or header.name.partition(".")[0] in keys:
                    if header.size > MAX_MEMBER_BYTES:
                        raise ShardError(
                            f"{name} must hold members of at most {MAX_MEMBER_BYTES} bytes, "
                            f"{header.name!a:.80} has {header.size}"
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
