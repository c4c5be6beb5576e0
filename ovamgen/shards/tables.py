"""Columns of a Parquet file, of the types that they must have and never more than fits."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ovamgen.bounds import MAX_TABLE_BYTES
from ovamgen.errors import ShardError

_ROWS_AT_ONCE = 4096


def read_columns(file: BinaryIO, name: str, schema: pa.Schema, most_rows: int) -> pa.Table:
    """The columns of the schema's names; others in the file are not looked at.

    Args:
        file: the Parquet file, seekable.
        name: what messages call it.
        schema: names and types of the columns that are wanted, and whether they may have nulls.
        most_rows: that the table may have; fewer than this are no error.

    Raises:
        ShardError: it cannot be read, lacks a column, has one of another type, or is larger than
            the bounds.
    """
    try:
        with pq.ParquetFile(file) as parquet:
            # a few bytes can stand for any number of equal rows: counted before they are read
            rows = parquet.metadata.num_rows
            if rows > most_rows:
                raise ShardError(f"{name} must have at most {most_rows} rows, got {rows}")
            _check_types(parquet.schema_arrow, schema, name)
            batches, size = [], 0
            for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=schema.names):
                size += batch.nbytes
                if size > MAX_TABLE_BYTES:
                    raise ShardError(
                        f"{name} must unpack to at most {MAX_TABLE_BYTES} bytes, it has more"
                    )
                _check_nulls(batch, schema, name)
                batches.append(batch)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise ShardError(f"{name} cannot be read as Parquet: {reason:.300}") from None
    table = pa.Table.from_batches(batches) if batches else schema.empty_table()
    return table.select(schema.names)


def column_names(file: BinaryIO, name: str) -> list[str]:
    """The names of a Parquet file's columns; the file can be read from its start again.

    Args:
        file: the Parquet file, seekable.
        name: what messages call it.

    Raises:
        ShardError: it cannot be read.
    """
    try:
        names = pq.read_schema(file).names
        file.seek(0)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise ShardError(f"{name} cannot be read as Parquet: {reason:.300}") from None
    return [str(column) for column in names]


def _check_nulls(batch: pa.RecordBatch, schema: pa.Schema, name: str) -> None:
    for field in schema:
        if not field.nullable and batch.column(field.name).null_count:
            raise ShardError(f"the column {field.name} of {name} must have a value in every row")


def _check_types(found: pa.Schema, wanted: pa.Schema, name: str) -> None:
    missing = [column for column in wanted.names if found.get_field_index(column) < 0]
    if missing:
        raise ShardError(
            f"{name} must have each of the columns {', '.join(wanted.names)} once: see to "
            f"{', '.join(missing)}"
        )
    for field in wanted:
        kind = found.field(field.name).type
        if not kind.equals(field.type):
            raise ShardError(
                f"the column {field.name} of {name} must be of type {field.type}, got {kind!s:.200}"
            )
