"""The samples of a tar, strictly: what is not exactly as the writer leaves it is an error.

Training reads through webdataset (`ovamgen.corpus.dataset`); this is for checks and reports.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Collection, Iterator
from typing import BinaryIO

from ovamgen.bounds import MAX_MEMBERS, MAX_SHARD_SIZE
from ovamgen.errors import ShardError
from ovamgen.records import is_key
from ovamgen.storage.tars import plain_members, read_member


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
    for header in plain_members(file, name, most):
        if keys is None or header.name.partition(".")[0] in keys:
            yield header.name, read_member(file, header, name)
    size = file.seek(0, os.SEEK_END)
    # A tar that was cut between two members reads like a shorter one.
    if size % tarfile.RECORDSIZE:
        raise ShardError(
            f"{name} must be a multiple of {tarfile.RECORDSIZE} bytes long, got {size}: it was cut"
        )
