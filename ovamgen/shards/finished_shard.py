"""What a finished shard holds, read as its record says: the rows of its metadata, its samples."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ovamgen.errors import ShardError
from ovamgen.records import Retry, ShardRecord
from ovamgen.shards.output_files import metadata_name, record_name
from ovamgen.shards.reader import read_tar
from ovamgen.storage.interface import Store


def read_metadata(
    store: Store, record: ShardRecord, columns: Sequence[str] | None = None
) -> pa.Table:
    """The metadata table of a shard, failures included.

    Raises:
        ShardError: the file is missing, damaged, or has other columns.
    """
    name = metadata_name(record.shard_index)
    try:
        with store.open(name) as file, pq.ParquetFile(file) as parquet:
            # a few bytes can stand for any number of equal rows: counted before they are read
            rows = parquet.metadata.num_rows
            if rows != record.samples + record.failed:
                raise ShardError(
                    f"{name} in {store.url} must have {record.samples + record.failed} rows as "
                    f"its record says, got {rows}"
                )
            table = parquet.read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ShardError(f"{name} in {store.url} cannot be read as Parquet: {error}") from None
    missing = set(columns or ()) - set(table.column_names)
    if missing:
        raise ShardError(f"{name} in {store.url} has no columns {', '.join(sorted(missing))}")
    return table


def read_retries(store: Store, record: ShardRecord) -> dict[str, Retry]:
    """What each sample of a shard is another attempt at, by key; none where it holds no retries.

    Raises:
        ShardError: the metadata is missing or damaged.
    """
    name = metadata_name(record.shard_index)
    try:
        with store.open(name) as file, pq.ParquetFile(file) as parquet:
            if "retry_of" not in parquet.schema_arrow.names:
                return {}
            columns = ["key", "retry_of", "retry_of_seed", "attempt"]
            rows = parquet.read(columns=columns).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ShardError(f"{name} in {store.url} cannot be read as Parquet: {error}") from None
    found = ((row["key"], Retry.in_row(row)) for row in rows)
    return {key: retry for key, retry in found if retry is not None}


def read_members(
    store: Store, record: ShardRecord, keys: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members, by extension, of the samples of a shard, in order.

    Args:
        store: of the corpus.
        record: of the shard.
        keys: those that are wanted; all where None.

    Raises:
        ShardError: the tar is damaged, or does not hold the samples that are wanted.
    """
    wanted = record.samples if keys is None else len(keys)
    found = 0
    with store.open(record.name) as file:
        for key, members in read_tar(file, record.name, keys):
            found += 1
            yield key, members
    if found != wanted:
        raise damaged(store, record, f"must hold {wanted} samples that were asked for, got {found}")


def damaged(store: Store, record: ShardRecord, what: str, name: str = "") -> ShardError:
    """The refusal of a shard of which a file is not as its record says, with what to do.

    Args:
        store: of the corpus.
        record: of the shard.
        what: is wrong; follows the file's name.
        name: of the file; the tar where not given.
    """
    return ShardError(
        f"{store.url}/{name or record.name} {what}: remove {record_name(record.shard_index)} and "
        "run 'ovamgen generate' again"
    )
