"""The record that marks a shard as finished: publishing a shard, and which shards are finished.

Pixels are not known here. The record is the commit: it is created last, and only if there is none.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from typing import TypeVar

from ovamgen import fault_points
from ovamgen.bounds import MAX_RECORD_BYTES
from ovamgen.config import canonical_json
from ovamgen.errors import ShardError
from ovamgen.records import EncodedSample, SampleFailure, SampleSpec, ShardRecord
from ovamgen.shards.output_files import (
    METADATA,
    RECORDS,
    is_shard_name,
    metadata_name,
    record_name,
    shard_name,
)
from ovamgen.shards.schema import SCHEMA_VERSION
from ovamgen.shards.writer import NO_EXTRA_FIELDS, ExtraFields, metadata_parquet, write_tar
from ovamgen.storage.interface import Store
from ovamgen.storage.plain_json import load_plain_json

_TYPES = {"int": int, "str": str}
_FIELDS = {field.name: _TYPES[str(field.type)] for field in fields(ShardRecord)}
"""The types of a record's values, by name."""

_READ_AT_ONCE = 64
"""Records that one thread is given at a time."""

T = TypeVar("T")
R = TypeVar("R")


class _DamagedRecordError(ShardError):
    """A record that no ovamgen wrote like this: its shard counts as not made."""


def record_to_json(record: ShardRecord) -> bytes:
    """The record as canonical JSON: equal records, equal bytes."""
    return canonical_json(asdict(record)).encode()


def record_from_json(data: bytes) -> ShardRecord:
    """The record in the bytes.

    Raises:
        ShardError: damaged, fields other than those of `ShardRecord`, or another schema version.
    """
    try:
        values = load_plain_json(data)
    except (ValueError, RecursionError) as error:
        raise _DamagedRecordError(f"a shard record cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise _DamagedRecordError(f"a shard record must be an object, got {type(values).__name__}")
    version = values.get("schema_version")
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise ShardError(
            f"a shard record has schema version {version}, this ovamgen reads {SCHEMA_VERSION}: "
            "use the ovamgen that wrote it, or another --out"
        )
    if values.keys() != _FIELDS.keys():
        raise _DamagedRecordError(
            f"a shard record must have the fields {', '.join(_FIELDS)}; differing: "
            f"{', '.join(sorted(values.keys() ^ _FIELDS.keys()))}"
        )
    wrong = [name for name, kind in _FIELDS.items() if type(values[name]) is not kind]
    if wrong:
        raise _DamagedRecordError(f"a shard record has values of wrong types: {', '.join(wrong)}")
    record = ShardRecord(**values)
    try:
        "".join(value for value in values.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError as error:
        raise _DamagedRecordError(f"a shard record has text that is no Unicode: {error}") from None
    # readers open what a record names, and a corpus may come from anybody
    if record.shard_index < 0 or not is_shard_name(record.name, record.shard_index):
        raise _DamagedRecordError(
            f"a shard record must name its tar like {shard_name('train', 0)}, with its own index "
            f"{record.shard_index}, got {record.name!a:.60}"
        )
    return record


def read_record(store: Store, index: int) -> ShardRecord | None:
    """The shard's record, None where the shard is not finished.

    Raises:
        ShardError: there is one, but it is damaged.
    """
    name = record_name(index)
    return record_from_json(store.read(name, MAX_RECORD_BYTES)) if store.exists(name) else None


def read_records(store: Store) -> dict[int, ShardRecord]:
    """The shard records that are in the store, by index.

    Raises:
        ShardError: a record is damaged; the next run makes its shard again.
    """
    return {record.shard_index: record for record in read_each(store, store.list(RECORDS))}


def read_each(store: Store, names: Sequence[str]) -> Iterator[ShardRecord]:
    """The shard records in the files of these names, in their order.

    Raises:
        ShardError: as `read_records`.
    """

    def read(name: str) -> ShardRecord:
        try:
            return record_from_json(store.read(name, MAX_RECORD_BYTES))
        except ShardError as error:
            raise ShardError(
                f"{store.url}/{name}: {error}; 'ovamgen generate' makes the shard again"
            ) from None

    return _in_parallel(store, read, names)


def publish_shard(
    store: Store,
    *,
    shard_index: int,
    split: str,
    samples: Iterable[EncodedSample],
    failures: Sequence[tuple[SampleSpec, SampleFailure]],
    fingerprint: str,
    extra: ExtraFields = NO_EXTRA_FIELDS,
) -> ShardRecord:
    """The record of the shard, whole in the store: its tar, its metadata, and last the record.

    Whatever is killed on the way leaves no record, and doing it again leaves the same bytes. Where
    another attempt was first, its record is returned.

    Args:
        store: where the shard goes.
        shard_index: of the plan; every key begins with its six digits.
        split: first part of the tar's name.
        samples: in ascending order of their keys; taken one at a time.
        failures: the samples that could not be made.
        fingerprint: of the run.
        extra: as for `metadata_parquet`.

    Raises:
        ShardError: the store failed, a sample belongs to another shard, or another attempt's shard
            differs from this one.
    """
    name = shard_name(split, shard_index)
    light: list[EncodedSample] = []
    with store.scratch() as folder:
        path = folder / name
        tar = write_tar(path, _without_members(samples, f"{shard_index:06d}", light))
        fault_points.reach("shard.tar_closed")
        metadata = metadata_parquet(shard_index, light, failures, extra)
        record = ShardRecord(
            schema_version=SCHEMA_VERSION,
            shard_index=shard_index,
            name=name,
            samples=len(light),
            failed=len(failures),
            size_bytes=tar.size_bytes,
            sha256=tar.sha256,
            md5=tar.md5,
            metadata_size_bytes=len(metadata),
            metadata_sha256=hashlib.sha256(metadata).hexdigest(),
            fingerprint=fingerprint,
        )
        # Looked at before publishing, so that a finished shard is never overwritten by another.
        other = read_record(store, shard_index)
        if other is None:
            store.publish_file(path, name)
            fault_points.reach("shard.tar_published")
            store.put(metadata_name(shard_index), metadata)
            fault_points.reach("shard.metadata_put")
            if store.create(record_name(shard_index), record_to_json(record)):
                fault_points.reach("shard.record_created")
                return record
            other = read_record(store, shard_index)
    if other != record:
        raise ShardError(
            f"shard {shard_index} was finished by another attempt with other content "
            f"({_differing(other, record)}): the same plan must give the same bytes; check that "
            "all machines have the same versions, then remove its record and run again"
        )
    return record


def finished_shards(
    store: Store, split: str, indices: Sequence[int], fingerprint: str
) -> dict[int, ShardRecord]:
    """The records of the shards that are whole: record, tar and metadata of the recorded sizes.

    A record that is damaged or whose files are not of its sizes is removed, so that its shard can
    be made again. Three listings whatever the number of shards, and one small read for each, of
    which the store's `readers` go on at once.

    Args:
        store: of the run.
        split: of the run.
        indices: of the plan's shards.
        fingerprint: of the run.

    Raises:
        ShardError: a shard of another run, or written by another version of the schema.
    """
    records = store.sizes(RECORDS)
    sizes = store.sizes(f"{split}-") | store.sizes(METADATA)
    finished: dict[int, ShardRecord] = {}

    def read(index: int) -> ShardRecord | None:
        try:
            return record_from_json(store.read(record_name(index), MAX_RECORD_BYTES))
        except _DamagedRecordError:
            return None
        except ShardError:
            if (store.size(record_name(index)) or 0) > MAX_RECORD_BYTES:
                return None
            raise

    there = [index for index in indices if record_name(index) in records]
    for index, record in zip(there, _in_parallel(store, read, there), strict=True):
        if record is None:
            store.delete(record_name(index))
            continue
        if record.fingerprint != fingerprint:
            raise ShardError(
                f"shard {index} in {store.url} was made by another configuration (fingerprint "
                f"{record.fingerprint[:12]}, this run has {fingerprint[:12]}): give another --out"
            )
        whole = (
            (record.shard_index, record.name) == (index, shard_name(split, index))
            and sizes.get(record.name) == record.size_bytes
            and sizes.get(metadata_name(index)) == record.metadata_size_bytes
        )
        if whole:
            finished[index] = record
        else:
            store.delete(record_name(index))
    return finished


def finished_copies(
    store: Store, records: Iterable[ShardRecord], fingerprint: str
) -> dict[int, ShardRecord]:
    """The records of the shards that are whole, of those that another corpus has; by index.

    Args:
        store: of the new corpus.
        records: of the other one, of any splits.
        fingerprint: of the new corpus.

    Raises:
        ShardError: as `finished_shards`.
    """
    by_split: dict[str, list[int]] = {}
    for record in records:
        by_split.setdefault(record.split, []).append(record.shard_index)
    done: dict[int, ShardRecord] = {}
    for split, indices in by_split.items():
        done |= finished_shards(store, split, indices, fingerprint)
    return done


def _in_parallel(store: Store, read: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """The results for all items, in their order."""
    if store.readers == 1:
        yield from map(read, items)
        return
    parts = [items[start : start + _READ_AT_ONCE] for start in range(0, len(items), _READ_AT_ONCE)]
    with ThreadPoolExecutor(store.readers) as pool:
        for results in pool.map(lambda part: [read(item) for item in part], parts):
            yield from results


def _without_members(
    samples: Iterable[EncodedSample], prefix: str, light: list[EncodedSample]
) -> Iterator[EncodedSample]:
    """Passes the samples on and keeps them without their members: pixels need not all stay."""
    for sample in samples:
        if not sample.key.startswith(prefix):
            raise ShardError(f"keys of shard {prefix} must begin with it, got '{sample.key}'")
        light.append(dataclasses.replace(sample, members=()))
        yield sample


def _differing(other: ShardRecord | None, record: ShardRecord) -> str:
    if other is None:
        return "its record has been removed since"
    names = [field.name for field in fields(ShardRecord)]
    return ", ".join(name for name in names if getattr(other, name) != getattr(record, name))
