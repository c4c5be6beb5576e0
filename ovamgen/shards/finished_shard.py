"""What a finished shard holds, read as its record says: the rows of its metadata, its samples."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ovamgen.bounds import MAX_KEY_DIGITS, MAX_SHARD_SIZE, MAX_SIDE_PX
from ovamgen.classes.class_entry import IGNORE
from ovamgen.errors import ShardError
from ovamgen.records import Retry, ShardRecord
from ovamgen.shards.codec import check_members
from ovamgen.shards.output_files import metadata_name, record_name
from ovamgen.shards.reader import read_tar
from ovamgen.shards.schema import METADATA_SCHEMA, PLANNED_FIELDS, extra_fields
from ovamgen.shards.tables import column_names, read_columns
from ovamgen.storage.interface import Store


def read_metadata(
    store: Store, record: ShardRecord, columns: Sequence[str] | None = None
) -> pa.Table:
    """The metadata table of a shard, failures included.

    Raises:
        ShardError: the file is missing or damaged, lacks a column, or has types or values that no
            ovamgen writes.
    """
    name = f"{metadata_name(record.shard_index)} in {store.url}"
    names = METADATA_SCHEMA.names if columns is None else [*columns]
    # which values a row may lack is decided by its status
    schema = pa.schema([METADATA_SCHEMA.field(n) for n in dict.fromkeys([*names, "status"])])
    rows = record.samples + record.failed
    with store.open(metadata_name(record.shard_index)) as file:
        table = read_columns(file, name, schema, min(rows, MAX_SHARD_SIZE))
    if table.num_rows != rows:
        raise ShardError(f"{name} must have {rows} rows as its record says, got {table.num_rows}")
    made = pc.sum(pc.equal(table.column("status"), "ok"), min_count=0).as_py()
    if made != record.samples:
        raise ShardError(
            f"{name} must tell of {record.samples} samples that were made, as its record says, got "
            f"{made}"
        )
    _check_values(table, name, f"{record.shard_index:06d}")
    return table.select(names)


_PLANNED = frozenset({"status", "stage", "reason", *PLANNED_FIELDS})
"""Columns without a null in any row; the others have none in rows of samples that were made."""
_OF_TARGETS = ("class_ids", "class_names", "phrases", "scores", "areas", "heatmap_max")
"""One for each target."""
_RANGES = {"class_ids": (0, IGNORE - 1), "height": (1, MAX_SIDE_PX), "width": (1, MAX_SIDE_PX)}


def _check_values(table: pa.Table, name: str, prefix: str) -> None:
    """Checks what readers rely on: a table may come from anybody."""

    def must(holds: object, column: str, what: str) -> None:
        if not (holds.as_py() if isinstance(holds, pa.Scalar) else holds):
            raise ShardError(f"the column {column} of {name} must {what}")

    made = table.filter(pc.equal(table.column("status"), "ok"))
    for column in table.column_names:
        rows = table if column in _PLANNED or column == "key" else made
        values = rows.column(column)
        must(values.null_count == 0, column, "have a value in every row")
        if pa.types.is_list(values.type):
            values = pc.list_flatten(values)
            must(values.null_count == 0, column, "hold no empty value")
        if column in _RANGES and len(values):
            low, high = _RANGES[column]
            least, most = (pc.min_max(values)[end].as_py() for end in ("min", "max"))
            must(low <= least and most <= high, column, f"be from {low} to {high}")
        if pa.types.is_floating(values.type):
            must(pc.all(pc.is_finite(values), min_count=0), column, "be finite")
    for rows, wanted in ((table, _PLANNED), (made, frozenset(_OF_TARGETS))):
        lists = [c for c in _OF_TARGETS if c in rows.column_names and c in wanted]
        counts = [pc.list_value_length(rows.column(column)) for column in lists]
        for column, count in zip(lists, counts, strict=True):
            same = pc.and_(pc.equal(count, counts[0]), pc.greater(count, 0))
            must(pc.all(same, min_count=0), column, "hold one value for each target")
    if "key" in table.column_names:
        keys = table.column("key")
        digits = MAX_KEY_DIGITS - len(prefix)
        fits = pc.match_substring_regex(keys, rf"^{prefix}[0-9]{{{digits}}}$")
        must(pc.all(fits, min_count=0), "key", f"hold {MAX_KEY_DIGITS} digits, {prefix} first")
        must(pc.count_distinct(keys).as_py() == len(keys), "key", "hold each key once")


def read_retries(store: Store, record: ShardRecord) -> dict[str, Retry]:
    """What each sample of a shard is another attempt at, by key; none where it holds no retries.

    Raises:
        ShardError: the metadata is missing or damaged.
    """
    found = ((key, Retry.in_row(row)) for key, row in read_extra_fields(store, record).items())
    return {key: retry for key, retry in found if retry is not None}


def read_extra_fields(store: Store, record: ShardRecord) -> dict[str, dict[str, str | int]]:
    """By key, what the rows of a shard's metadata have beside the columns of every sample.

    Raises:
        ShardError: the metadata is missing or damaged.
    """
    name = f"{metadata_name(record.shard_index)} in {store.url}"
    with store.open(metadata_name(record.shard_index)) as file:
        extra = extra_fields(column_names(file, name))
        if not extra:
            return {}
        schema = pa.schema([METADATA_SCHEMA.field("key"), *extra])
        rows = read_columns(file, name, schema, MAX_SHARD_SIZE).to_pylist()
    return {row.pop("key"): row for row in rows}


def read_members(
    store: Store, record: ShardRecord, keys: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members, by extension, of the samples of a shard, in order.

    Args:
        store: of the corpus.
        record: of the shard.
        keys: those that are wanted; all where None.

    Raises:
        ShardError: the tar is damaged, or does not hold the samples that are wanted as a whole.
    """
    wanted = record.samples if keys is None else len(keys)
    found = 0
    with store.open(record.name) as file:
        for key, members in read_tar(file, record.name, keys, record.samples):
            found += 1
            try:
                check_members(members, f"sample {key}")
            except ShardError as error:
                raise damaged(store, record, f"is not whole ({error})") from None
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
