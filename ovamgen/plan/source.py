"""The bytes of a file or URL, unpacked, with the digest of what is stored.

It opens anything that fsspec opens, and knows nothing of what the bytes mean.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from ovamgen.errors import ConfigError, PlanError
from ovamgen.storage.reading import read_file
from ovamgen.storage.retrying import RemoteError

MAX_BYTES = 2 * 1024**3
"""Bytes that a file may have, packed and unpacked: four times COCO's largest annotation file."""

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that was read whole."""

    url: str
    content: bytes
    """Unpacked, where the file is packed."""
    sha256: str
    """SHA-256 of the bytes as they are stored, hex."""
    suffix: str
    """The ending that tells the format, in lower case, without ``.gz``: ``.json``."""

    def text(self) -> str:
        """The content as UTF-8, without a byte order mark.

        Raises:
            PlanError: it is not UTF-8; the line is named.
        """
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = self.content.count(b"\n", 0, error.start) + 1
            byte = error.object[error.start]
            raise PlanError(
                f"{self.url} line {line}: expected UTF-8, got byte 0x{byte:02x}: convert the file"
            ) from None


def read_source(url: str) -> Source:
    """The content of a local file or of any fsspec URL; gzip is told by its first bytes.

    Raises:
        PlanError: it is missing, cannot be read, is damaged, or is larger than `MAX_BYTES`.
    """
    stored = _read_stored(url)
    content = _unpack(url, stored) if stored.startswith(_GZIP_MAGIC) else stored
    return Source(
        url=url, content=content, sha256=hashlib.sha256(stored).hexdigest(), suffix=_suffix(url)
    )


def _read_stored(url: str) -> bytes:
    if not url:
        raise PlanError("no captions are named: set plan.captions to a file or URL")
    try:
        stored: bytes = read_file(url, lambda file: file.read(MAX_BYTES + 1))
    except ConfigError as error:
        raise PlanError(f"the captions or instances cannot be opened: {error}") from None
    except RemoteError as error:
        kind = error.failure.kind
        if kind in ("missing", "folder"):
            what = "does not exist" if kind == "missing" else "is a folder"
            raise PlanError(f"{url} {what}: expected a file of captions or instances") from None
        raise PlanError(f"{url} cannot be read: {error.explanation}") from None
    _check_size(url, stored)
    return stored


def _unpack(url: str, stored: bytes) -> bytes:
    """The content of a gzip file; no more than the limit is ever unpacked."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(stored)) as packed:
            content = packed.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise PlanError(f"{url} is a damaged gzip file: {first_line(error)}") from None
    _check_size(url, content)
    return content


def _check_size(url: str, content: bytes) -> None:
    if len(content) > MAX_BYTES:
        raise PlanError(
            f"{url} holds more than {MAX_BYTES} bytes, the most that is read: cut it into parts"
        )


def _suffix(url: str) -> str:
    path = url.partition("?")[0] if "://" in url else url
    name = PurePosixPath(path.replace("\\", "/")).name.lower()
    return PurePosixPath(name.removesuffix(".gz")).suffix


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, its type where it has none: messages are one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
