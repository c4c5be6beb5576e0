"""The metadata table of a shard, read with bounds and compared with what the shard must hold."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from ovamgen.bounds import MAX_SHARD_SIZE, MAX_TABLE_BYTES
from ovamgen.errors import SampleError, ShardError
from ovamgen.integrity.findings import Findings
from ovamgen.records import SampleSpec, Stage
from ovamgen.shards.arrays import decode_png
from ovamgen.shards.schema import (
    EXTRA_FIELDS,
    SAMPLE_SCHEMA,
    conform,
    metadata_schema,
    planned_fields,
    targets_of,
)

_ROWS_AT_ONCE = 256
_MAX_PREVIEW_SIDE = 4096
_EXTRA = frozenset(field.name for group in EXTRA_FIELDS for field in group)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetadataTable:
    """A table that can be read; rows by ascending key."""

    table: pa.Table
    made: frozenset[str]
    """Keys of the samples that the tar must hold."""
    failed: frozenset[str]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One after the other; not all are in memory at once."""
        for batch in self.table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from batch.to_pylist()


def read_table(data: bytes, shard_index: int) -> MetadataTable:
    """The table in the bytes of a Parquet file.

    Raises:
        ShardError: it is damaged, too large, or not as the writer leaves it.
    """
    try:
        with pq.ParquetFile(io.BytesIO(data)) as file:
            rows = file.metadata.num_rows
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            if rows > MAX_SHARD_SIZE or size > MAX_TABLE_BYTES:
                raise ShardError(
                    f"at most {MAX_SHARD_SIZE} rows of {MAX_TABLE_BYTES} bytes expected, it "
                    f"declares {rows} of {size}"
                )
            table = file.read()
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise ShardError(f"it cannot be read as Parquet: {error}") from None
    if not table.schema.equals(metadata_schema(table.schema.names)):
        raise ShardError("its columns are not those of the metadata of a shard")
    notes = table.schema.metadata or {}
    if notes.get(b"ovamgen.shard") != str(shard_index).encode():
        raise ShardError(f"it says that it is of shard {notes.get(b'ovamgen.shard')!r}")
    keys = table.column("key").to_pylist()
    if any(key is None for key in keys) or any(a >= b for a, b in pairwise(keys)):
        raise ShardError("its keys do not ascend, each once")
    by_status: dict[str, set[str]] = {"ok": set(), "failed": set()}
    for key, status in zip(keys, table.column("status").to_pylist(), strict=True):
        if status not in by_status:
            raise ShardError(f"the status of {key} must be ok or failed, it is '{status}'")
        by_status[status].add(key)
    return MetadataTable(
        table=table, made=frozenset(by_status["ok"]), failed=frozenset(by_status["failed"])
    )


def check_rows(
    table: MetadataTable, name: str, specs: Sequence[SampleSpec] | None, findings: Findings
) -> None:
    """Finds rows that are not whole in themselves, or not of the samples that were planned."""
    planned = None if specs is None else {spec.key: spec for spec in specs}
    if planned is not None and planned.keys() != table.made | table.failed:
        other = sorted(planned.keys() ^ (table.made | table.failed))
        findings.add(
            name,
            f"one row for each of the {len(planned)} planned samples",
            f"{len(table.made | table.failed)} rows; differing: {', '.join(other[:5])}",
        )
    for row in table.rows():
        problem = _problem(row, planned.get(row["key"]) if planned else None)
        if problem:
            findings.add(name, f"a row of sample {row['key']} as it was planned and made", problem)


def _problem(row: Mapping[str, Any], spec: SampleSpec | None) -> str:
    if spec is not None:
        wanted = planned_fields(spec) | spec.extra_fields
        # text that is no Unicode cannot stand in a table: there it has question marks
        differing = [n for n, value in wanted.items() if row.get(n) != _as_stored(value)]
        differing += sorted(_EXTRA & row.keys() - spec.extra_fields.keys())
        if differing:
            return f"other {', '.join(differing)} than the plan"
    if row["status"] == "failed":
        if row["stage"] not in get_args(Stage) or not row["reason"]:
            return f"the stage '{row['stage']}' and the reason '{row['reason']}'"
        return ""
    try:
        conform({name: row[name] for name in SAMPLE_SCHEMA.names})
        previews = row["previews"] or []
        if len(previews) != len(targets_of(row)):
            return f"{len(previews)} previews for {len(targets_of(row))} classes"
        for preview in previews:
            decode_png(preview, png_size(preview), "a preview")
    except (SampleError, ShardError) as error:
        return str(error)
    return ""


def png_size(data: bytes) -> tuple[int, int]:
    """(height, width) that a PNG declares.

    Raises:
        ShardError: no PNG, or larger than any preview is.
    """
    if len(data) < 24 or data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ShardError("a preview must be a PNG")
    width, height = struct.unpack(">II", data[16:24])
    if not 0 < max(height, width) <= _MAX_PREVIEW_SIDE:
        raise ShardError(f"a preview must be of at most {_MAX_PREVIEW_SIDE} pixels a side")
    return height, width


def _as_stored(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
