"""Whole-object uploads, with a look at what has arrived."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from ovamgen import fault_points
from ovamgen.storage.failures import IncompleteTransferError
from ovamgen.storage.filesystems import PART_BYTES, upload_options, write_options


def upload_bytes(filesystem: Any, path: str, data: bytes, store: str) -> None:
    """Writes the object, or replaces it; ``store`` as `ovamgen.storage.urls.store_of`.

    Raises:
        IncompleteTransferError: the object is not what was sent.
    """
    filesystem.pipe_file(path, data, **write_options(store))
    digests = {hashlib.md5(data, usedforsecurity=False).hexdigest()}
    _check_arrived(filesystem, path, len(data), digests)


def upload_file(filesystem: Any, source: Path, path: str, store: str) -> None:
    """Writes the object from a local file; a large one travels in parts and appears at once.

    Raises:
        IncompleteTransferError: the object is not what was sent.
    """
    filesystem.put_file(str(source), path, **upload_options(store))
    fault_points.reach("remote.uploaded")
    _check_arrived(filesystem, path, source.stat().st_size, _digests_of(source))


def _digests_of(path: Path) -> set[str]:
    """What a store may tell of a file: its MD5, or that of the MD5s of an upload's parts."""
    whole = hashlib.md5(usedforsecurity=False)
    parts = []
    with path.open("rb") as file:
        while block := file.read(PART_BYTES):
            whole.update(block)
            parts.append(hashlib.md5(block, usedforsecurity=False).digest())
    of_parts = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return {whole.hexdigest(), f"{of_parts}-{len(parts)}"}


def _check_arrived(filesystem: Any, path: str, size: int, digests: set[str]) -> None:
    info = filesystem.info(path)
    if info["size"] != size:
        raise IncompleteTransferError(f"{info['size']} of {size} bytes arrived")
    told = _told_digest(info)
    if told is None or told in digests:
        return
    # where a store encrypts with a key of its own, it tells no digest of the content: then the
    # bytes themselves decide
    found = hashlib.md5(usedforsecurity=False)
    for start in range(0, size, PART_BYTES):
        found.update(filesystem.cat_file(path, start=start, end=min(start + PART_BYTES, size)))
    if found.hexdigest() not in digests:
        raise IncompleteTransferError("other bytes arrived than were sent")


def _told_digest(info: dict[str, Any]) -> str | None:
    """The digest that a store tells of an object: S3's ETag, or the MD5 of Google's and Azure's."""
    if md5 := info.get("md5Hash"):
        return base64.b64decode(md5).hex()
    if md5 := getattr(info.get("content_settings"), "content_md5", None):
        return bytes(md5).hex()
    etag = info.get("ETag")
    return str(etag).strip('"') if etag else None
