"""The plan as a Parquet file: one row a caption, taken and left out alike, typed columns.

Settings and digests stand in the schema's metadata. Equal plans give equal bytes (one pyarrow
version): no clock, no paths, no nulls. It is written and read in parts, never whole.
"""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from ovamgen.bounds import MAX_SHARDS
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import as_saved, from_saved
from ovamgen.config import canonical_json
from ovamgen.errors import ConfigError, PlanError
from ovamgen.plan.plan_check import PlanCheck
from ovamgen.plan.source import first_line
from ovamgen.storage.plain_json import load_plain_json

SCHEMA_VERSION = 1

_METADATA = b"ovamgen.plan"
_COLUMNS = {
    "key": pa.string(),  # "" where left out, as is the prompt
    "shard_index": pa.int32(),  # -1 where left out, as are batch and seed
    "batch_index": pa.int32(),
    "reason": pa.string(),  # "" where taken
    "caption_id": pa.int64(),
    "image_id": pa.int64(),
    "caption": pa.string(),
    "prompt": pa.string(),
    "class_ids": pa.list_(pa.field("item", pa.int16(), nullable=False)),
    "class_names": pa.list_(pa.field("item", pa.string(), nullable=False)),
    "phrases": pa.list_(pa.field("item", pa.string(), nullable=False)),
    "seed": pa.int64(),
    "word_included": pa.bool_(),
    "word_included_published": pa.bool_(),
}
SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _COLUMNS.items()])
"""The columns of a plan, without its metadata."""
_RETRY_COLUMNS = {
    "retry_of": pa.string(),
    "retry_of_seed": pa.int64(),
    "attempt": pa.int32(),
}
_PICTURE_COLUMNS = {
    "picture": pa.string(),
    "picture_bytes": pa.int64(),
    "picture_height": pa.int32(),
    "picture_width": pa.int32(),
    "label_height": pa.int32(),
    "label_width": pa.int32(),
}


def plan_schema(*, retries: bool = False, pictures: bool = False) -> pa.Schema:
    """The columns of a plan whose samples are failed ones, tried again, or labelled pictures."""
    extra = (_RETRY_COLUMNS if retries else {}) | (_PICTURE_COLUMNS if pictures else {})
    return pa.schema([*SCHEMA, *(pa.field(n, kind, nullable=False) for n, kind in extra.items())])


GROUP_ROWS = 1 << 20
"""Rows of a row group: what the writer holds at once."""
_READ_ROWS = 1 << 14
"""Rows that are decoded at once."""


@runtime_checkable
class ByteSink(Protocol):
    """What a plan is written to: any binary file."""

    def write(self, data: bytes, /) -> int:
        """Takes bytes."""


@runtime_checkable
class ByteStream(Protocol):
    """What a plan is read from: any seekable binary file."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Goes to a place."""

    def close(self) -> None:
        """Lets go of the file."""


def write_plan_file(
    sink: ByteSink,
    tables: Iterable[pa.Table],
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    classes: ClassSet,
    first_shard: int = 0,
    retries: bool = False,
    pictures: bool = False,
) -> None:
    """Writes a plan; one row group of `GROUP_ROWS` rows is held at once.

    Args:
        sink: open for writing.
        tables: of `plan_schema`, of any length: the samples in their order, then what was left out.
        inputs: sha256 by name of what was read.
        settings: the planning section of the configuration.
        classes: that its targets are of.
        first_shard: index of the first shard; above 0 where the plan extends a corpus.
        retries: its samples are failed ones, tried again.
        pictures: its samples are labelled pictures.
    """
    header = {"schema_version": SCHEMA_VERSION, "inputs": inputs, "settings": settings}
    header |= as_saved(classes) | ({"first_shard": first_shard} if first_shard else {})
    columns = plan_schema(retries=retries, pictures=pictures)
    schema = columns.with_metadata({_METADATA: canonical_json(header).encode()})
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        written = 0
        for table in _regrouped(tables):
            writer.write_table(table, row_group_size=GROUP_ROWS)
            written += 1
        if not written:
            writer.write_table(schema.empty_table())


class PlanFile:
    """A plan on disk or in memory, checked from end to end, of which any rows can be read."""

    def __init__(self, stream: ByteStream) -> None:
        """Reads the file once, a few rows at a time.

        Args:
            stream: seekable; it is this object's from now on.

        Raises:
            PlanError: the bytes are damaged, no plan, or of a schema this version does not know.
        """
        self._stream = stream
        weakref.finalize(self, stream.close)
        self._lock = threading.Lock()
        self._position = self._cursor_end = -1
        self._cursor: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None
        with _damage_named():
            self._file = pq.ParquetFile(stream, page_checksum_verification=True)
            header = _header(self._file.schema_arrow.metadata or {})
            columns = self._file.schema_arrow
            self.retries = "retry_of" in columns.names
            """Its samples are failed ones, tried again."""
            self.pictures = "picture" in columns.names
            """Its samples are labelled pictures."""
            if not columns.equals(plan_schema(retries=self.retries, pictures=self.pictures)):
                raise PlanError("the plan is damaged: its columns are not those of a plan")
            self.first_shard: int = header["first_shard"]
            check = PlanCheck(self.first_shard)
            for batch in self.batches():
                check.add(batch)
            self.row_count: int = self._file.metadata.num_rows
            if check.rows != self.row_count:
                raise ValueError(f"expected {self.row_count} rows, got {check.rows}")
        self.inputs: dict[str, str] = header["inputs"]
        self.settings: dict[str, Any] = header["settings"]
        self.classes = _classes(header)
        self.shard_starts: Int64[np.ndarray, " shards_and_one"] = check.shard_starts
        """Row at which each shard begins, and last the row after the samples."""
        groups = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        self._group_starts = np.cumsum([0, *groups])

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in their order, a few at a time.

        Raises:
            PlanError: the file cannot be read.
        """
        with _damage_named():
            yield from self._file.iter_batches(_READ_ROWS, columns=columns)

    def rows(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Rows ``start`` to ``stop``; quick where they follow those that were asked for last.

        Raises:
            PlanError: the file cannot be read.
        """
        found: list[dict[str, Any]] = []
        with self._lock, _damage_named():
            self._seek(start)
            while start < stop:
                batch = self._batch_at(start)
                first = start - self._position
                part = batch.slice(first, stop - start)
                found += _records(part)
                start += part.num_rows
        return found

    def copy_to(self, sink: ByteSink) -> None:
        """Writes the file's bytes."""
        with self._lock:
            self._stream.seek(0)
            shutil.copyfileobj(self._stream, sink)

    def _seek(self, row: int) -> None:
        """Makes the cursor begin at or before the row, in the same row group."""
        group = int(np.searchsorted(self._group_starts, row, side="right")) - 1
        if self._position <= row and self._group_starts[group] <= self._cursor_end:
            return
        self._cursor = self._file.iter_batches(
            _READ_ROWS, row_groups=list(range(group, self._file.num_row_groups))
        )
        self._position = self._cursor_end = int(self._group_starts[group])
        self._batch = None

    def _batch_at(self, row: int) -> pa.RecordBatch:
        """The batch that holds the row; the cursor moves to it."""
        while self._batch is None or row >= self._cursor_end:
            self._batch = next(self._cursor)
            self._position = self._cursor_end
            self._cursor_end += self._batch.num_rows
        return self._batch


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of `GROUP_ROWS`, the last one shorter."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while rows >= GROUP_ROWS:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, GROUP_ROWS).combine_chunks()
            waiting = [whole.slice(GROUP_ROWS)]
            rows -= GROUP_ROWS
    if rows:
        yield pa.concat_tables(waiting).combine_chunks()


def _records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows as dictionaries; ten times as quick as pyarrow's own way, which asks each value."""
    columns = [_values(column) for column in batch.columns]
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.Array) -> list[Any]:
    if not pa.types.is_list(column.type):
        return column.to_numpy(zero_copy_only=False).tolist()
    values = _values(column.flatten())
    ends = np.cumsum(column.value_lengths().to_numpy()).tolist()
    return [values[start:stop] for start, stop in pairwise([0, *ends])]


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, MemoryError, StopIteration) as error:
        raise PlanError(
            f"the plan cannot be read: {first_line(error)}: make it again with ovamgen plan"
        ) from None


def _classes(header: Mapping[str, Any]) -> ClassSet:
    try:
        return from_saved(header)
    except ConfigError as error:
        raise PlanError(f"the plan is damaged: {error}") from None


def _header(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    if _METADATA not in metadata:
        raise PlanError("expected a plan, got another Parquet file: name a plan.parquet")
    header = load_plain_json(metadata[_METADATA])
    version = header.get("schema_version") if isinstance(header, dict) else None
    if version != SCHEMA_VERSION:
        raise PlanError(
            f"expected a plan of schema version {SCHEMA_VERSION}, got {version}: "
            "use the ovamgen that made it, or plan again"
        )
    if not all(isinstance(header.get(part), dict) for part in ("inputs", "settings")):
        raise PlanError("the plan is damaged: inputs or settings are missing from its metadata")
    first = header.setdefault("first_shard", 0)
    if type(first) is not int or not 0 <= first < MAX_SHARDS:
        raise PlanError(f"the plan is damaged: it begins at shard {first!r:.30}")
    return header
