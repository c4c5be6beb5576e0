"""Encoded samples to the bytes of a tar and of its metadata table.

Equal samples give equal bytes: nothing here looks at a clock, a user or a path.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ovamgen import fault_points
from ovamgen.errors import ShardError
from ovamgen.records import EncodedSample, SampleFailure, SampleSpec
from ovamgen.shards.schema import SCHEMA_VERSION, metadata_schema, spec_fields

ExtraFields = Mapping[str, Mapping[str, str | int]]
"""By key, the columns that a sample's row has beside those of every sample."""
NO_EXTRA_FIELDS: ExtraFields = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class TarDigest:
    """Size and digests (hex) of a tar, taken while it was written."""

    size_bytes: int
    sha256: str
    md5: str


def write_tar(path: Path, samples: Iterable[EncodedSample]) -> TarDigest:
    """The digests of the tar that was written to ``path``, one sample at a time.

    USTAR with every header field fixed (conventions 3.1): mtime 0, owner 0 without a name, mode
    0644. Members of a sample are adjacent, samples stand in ascending order of their keys.

    Raises:
        ShardError: keys do not ascend or hold a dot or slash, or the file cannot be written.
    """
    last_key = ""
    try:
        with path.open("wb") as file:
            fault_points.reach("tar.begun")
            target = _DigestingFile(file)
            for sample in samples:
                _check_key(sample.key, last_key)
                last_key = sample.key
                for extension, content in sample.members:
                    target.write(_header_block(f"{sample.key}.{extension}", len(content)))
                    target.write(content)
                    target.write(bytes(-len(content) % tarfile.BLOCKSIZE))
                fault_points.reach("tar.sample_added")
            target.write(_END)
            target.write(bytes(-target.size_bytes % tarfile.RECORDSIZE))
    except OSError as error:
        raise ShardError(
            f"the tar {path.name} cannot be written: {error.strerror or error}; "
            "check the space and permissions of the output and run again"
        ) from error
    return target.digest()


def tar_header(name: str, size_bytes: int) -> tarfile.TarInfo:
    """The header of a member, every field of it fixed but name and size."""
    header = tarfile.TarInfo(name)
    header.size = size_bytes
    header.mode = 0o644
    header.mtime = header.uid = header.gid = 0
    header.uname = header.gname = ""
    return header


_BLANK = tar_header("", 0).tobuf(tarfile.USTAR_FORMAT)
_END = bytes(2 * tarfile.BLOCKSIZE)


def _header_block(name: str, size_bytes: int) -> bytes:
    """The bytes of `tar_header`, which are most of a small member's time where `tarfile` sums them.

    Name, size and checksum are put into an empty header; what does not fit there is left to it.
    """
    if not name.isascii() or len(name) > tarfile.LENGTH_NAME or size_bytes >= 8**11:
        return tar_header(name, size_bytes).tobuf(tarfile.USTAR_FORMAT)
    start = name.encode().ljust(tarfile.LENGTH_NAME, b"\0")
    start += _BLANK[100:124] + b"%011o" % size_bytes + _BLANK[135:148]
    # the checksum counts as eight spaces in itself
    checksum = sum(start) + sum(_BLANK[156:]) + 8 * ord(" ")
    return start + b"%06o\0 " % checksum + _BLANK[156:]


def metadata_parquet(
    shard_index: int,
    samples: Iterable[EncodedSample],
    failures: Sequence[tuple[SampleSpec, SampleFailure]],
    extra: ExtraFields = NO_EXTRA_FIELDS,
) -> bytes:
    """A Parquet file with one row for every sample of the shard, failed ones too, by key.

    Columns are those of `metadata_schema`. A failed sample has the fields of its spec, the stage
    and the reason; what it never came to have is null, its previews are an empty list.

    Args:
        shard_index: kept in the file's own metadata.
        samples: their members are not looked at.
        failures: each with the spec that it belongs to.
        extra: `SampleSpec.extra_fields` by key; the same columns of all of them, or of none.
    """
    rows = [_made_row(sample) for sample in samples]
    rows += [_failed_row(spec, failure) for spec, failure in failures]
    rows.sort(key=lambda row: row["key"])
    if extra:
        rows = [{**row, **extra[row["key"]]} for row in rows]
    notes = {"ovamgen.schema_version": str(SCHEMA_VERSION), "ovamgen.shard": str(shard_index)}
    schema = metadata_schema(next(iter(extra.values()), {}))
    table = pa.Table.from_pylist(rows, schema=schema.with_metadata(notes))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


class _DigestingFile:
    """A file that is written to, with running digests."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        self._sha256.update(data)
        self._md5.update(data)
        self._file.write(data)

    def digest(self) -> TarDigest:
        return TarDigest(
            size_bytes=self.size_bytes, sha256=self._sha256.hexdigest(), md5=self._md5.hexdigest()
        )


def _check_key(key: str, last_key: str) -> None:
    if not key or "." in key or "/" in key:
        raise ShardError(
            f"a sample's key must be a name without dot and slash, got '{key}': readers take the "
            "first dot for the beginning of the extension"
        )
    if key <= last_key:
        raise ShardError(f"keys of a shard must ascend, got '{key}' after '{last_key}'")


def _made_row(sample: EncodedSample) -> dict[str, Any]:
    ok = {"status": "ok", "stage": "", "reason": ""}
    return ok | sample.metadata | {"previews": list(sample.previews)}


def _failed_row(spec: SampleSpec, failure: SampleFailure) -> dict[str, Any]:
    return spec_fields(spec) | {
        "status": "failed",
        "stage": failure.stage,
        "reason": _unicode(failure.reason),
        "caption": _unicode(spec.caption),
        "prompt": _unicode(spec.prompt),
        "previews": [],
    }


def _unicode(text: str) -> str:
    """The text with "?" for lone surrogates: they may be what the sample failed of."""
    return text.encode("utf-8", "replace").decode()
