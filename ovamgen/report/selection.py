"""Which samples a picture shows: the same ones every time, of as many classes as there is room for.

They are not picked by how good they look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ovamgen.errors import ShardError
from ovamgen.records import ShardRecord
from ovamgen.shards.codec import DecodedSample, decode_sample
from ovamgen.shards.finished_shard import read_members, read_metadata
from ovamgen.shards.output_files import metadata_name
from ovamgen.shards.schema import targets_of
from ovamgen.storage.interface import Store

T = TypeVar("T")

MAX_SHARDS = 8
"""So many shards are looked into, spread evenly, however many a run has."""

_COLUMNS = ["key", "status", "unsafe", "class_ids", "previews"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShownSample:
    """A sample with the heatmaps of its targets."""

    sample: DecodedSample
    previews: tuple[bytes, ...]
    """One 8-bit PNG a target, at latent resolution."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    shard: ShardRecord
    key: str
    class_id: int
    previews: tuple[bytes, ...]


def choose_samples(
    store: Store, records: Sequence[ShardRecord], count: int
) -> tuple[ShownSample, ...]:
    """At most ``count`` samples, taken in turn from every class in the order of ids and keys.

    Where there are more classes than room, classes spread evenly over the ids are taken. A sample
    counts for its first target; those that the safety checker flagged are left out.

    Raises:
        ShardError: a shard's metadata, tar or sample is damaged.
    """
    with_samples = [record for record in records if record.samples]
    candidates = [
        candidate
        for record in _spread(with_samples, MAX_SHARDS)
        for candidate in _candidates(store, record)
    ]
    chosen = _in_turn(candidates, count)
    samples = _decode(store, chosen)
    return tuple(ShownSample(sample=samples[c.key], previews=c.previews) for c in chosen)


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most so many of the items, evenly spaced, the first one included."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def _candidates(store: Store, record: ShardRecord) -> list[_Candidate]:
    rows = read_metadata(store, record, _COLUMNS).to_pylist()
    shown = [row for row in rows if row["status"] == "ok" and not row["unsafe"]]
    for row in shown:
        targets = targets_of(row)
        if len(row["previews"]) != len(targets):
            raise ShardError(
                f"{metadata_name(record.shard_index)} in {store.url} must hold a preview for each "
                f"of the {len(targets)} targets of sample {row['key']}, got "
                f"{len(row['previews'])}"
            )
    return [
        _Candidate(record, row["key"], row["class_ids"][0], tuple(row["previews"])) for row in shown
    ]


def _in_turn(candidates: Sequence[_Candidate], count: int) -> list[_Candidate]:
    by_class: dict[int, list[_Candidate]] = defaultdict(list)
    for candidate in sorted(candidates, key=lambda c: c.key):
        by_class[candidate.class_id].append(candidate)
    queues = [by_class[class_id] for class_id in _spread(sorted(by_class), count)]
    turns = max(map(len, queues), default=0)
    ordered = [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]
    return ordered[:count]


def _decode(store: Store, chosen: Sequence[_Candidate]) -> dict[str, DecodedSample]:
    wanted: dict[ShardRecord, set[str]] = defaultdict(set)
    for candidate in chosen:
        wanted[candidate.shard].add(candidate.key)
    return {
        key: decode_sample(members)
        for record, keys in wanted.items()
        for key, members in read_members(store, record, keys)
    }
