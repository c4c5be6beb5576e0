"""Counts over all rows of a corpus's metadata, one shard in memory at a time.

Pixels come from the recorded areas: no tar is opened here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from jaxtyping import Int64

from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import ShardError
from ovamgen.records import ShardRecord, Stage
from ovamgen.shards.finished_shard import damaged, read_metadata
from ovamgen.shards.manifest import sha256_of
from ovamgen.shards.output_files import metadata_name
from ovamgen.shards.schema import targets_of
from ovamgen.storage.interface import Store

MAX_FAILURE_KINDS = 200
"""Further messages are counted together, so that a million different ones stay in memory."""

_EXAMPLES = 3
_FINE_BINS = 10_000

COLUMNS = (
    "key",
    "status",
    "stage",
    "reason",
    "class_ids",
    "scores",
    "areas",
    "height",
    "width",
    "unsafe",
)


def _no_counts() -> Int64[np.ndarray, " bins"]:
    return np.zeros(_FINE_BINS, np.int64)


@dataclass(slots=True, eq=False)
class Distribution:
    """How values in [0, 1] are spread, to 1/10,000, whatever their number."""

    counts: Int64[np.ndarray, " bins"] = field(default_factory=_no_counts)

    def add(self, value: float) -> None:
        """Count a value; 1 belongs to the last bin."""
        self.counts[min(int(value * _FINE_BINS), _FINE_BINS - 1)] += 1

    @property
    def total(self) -> int:
        """How many values there were."""
        return int(self.counts.sum())

    def quantile(self, fraction: float) -> float | None:
        """The middle of the bin that holds the value below which the fraction lies, if any."""
        if not self.total:
            return None
        rank = min(int(fraction * self.total), self.total - 1)
        return (int(np.searchsorted(np.cumsum(self.counts), rank, side="right")) + 0.5) / _FINE_BINS

    def bars(self, count: int) -> list[int]:
        """The counts in so many equal parts of [0, 1]; ``count`` must divide 10,000."""
        return [int(part.sum()) for part in np.split(self.counts, count)]


@dataclass(slots=True, eq=False)
class ClassTally:
    """What came of one class; counts are of targets, that is of one class in one image."""

    images: int = 0
    pixels: int = 0
    empty: int = 0
    """Targets whose mask has no pixel; they are in neither distribution."""
    scores: Distribution = field(default_factory=Distribution)
    areas: Distribution = field(default_factory=Distribution)


@dataclass(slots=True, kw_only=True, eq=False)
class FailureKind:
    """Failed samples of one stage whose messages differ at most in the sample's key."""

    stage: str
    message: str
    count: int = 0
    examples: list[str] = field(default_factory=list)
    """Keys, the lowest ones."""


@dataclass(slots=True, eq=False)
class Statistics:
    """The numbers of a page."""

    classes: dict[int, ClassTally]
    """By id, all of the set."""
    samples: int = 0
    unsafe: int = 0
    failed: int = 0
    without_class: int = 0
    """Samples that are to show no class."""
    pixels: int = 0
    """Pixels of all images, whatever they show."""
    failures: dict[tuple[str, str], FailureKind] = field(default_factory=dict)
    """By stage and message."""
    other_failures: int = 0
    """Failures of kinds beyond `MAX_FAILURE_KINDS`."""

    @classmethod
    def of(cls, classes: ClassSet) -> Statistics:
        """Statistics over nothing, of a set of classes."""
        return cls({entry.id: ClassTally() for entry in classes.classes})

    def add(self, row: dict[str, Any]) -> None:
        """Count one row of the metadata."""
        if row["status"] != "ok":
            self._add_failure(row["key"], row["stage"], row["reason"])
            return
        self.samples += 1
        self.unsafe += row["unsafe"]
        size = row["height"] * row["width"]
        self.pixels += size
        if not targets_of(row):
            self.without_class += 1
            return
        for class_id, score, area in zip(
            row["class_ids"], row["scores"], row["areas"], strict=True
        ):
            tally = self.classes[class_id]
            tally.images += 1
            # areas are written with 6 decimals: exact up to a million pixels
            tally.pixels += round(area * size)
            if area:
                tally.scores.add(score)
                tally.areas.add(area)
            else:
                tally.empty += 1

    def _add_failure(self, key: str, stage: str, reason: str) -> None:
        self.failed += 1
        message = " ".join(reason.split()).replace(key, "KEY")
        kind = self.failures.get((stage, message))
        if kind is None:
            if len(self.failures) >= MAX_FAILURE_KINDS:
                self.other_failures += 1
                return
            kind = self.failures[stage, message] = FailureKind(stage=stage, message=message)
        kind.count += 1
        if len(kind.examples) < _EXAMPLES:
            kind.examples.append(key)

    @property
    def failed_by_stage(self) -> dict[str, int]:
        """Failed samples by stage, in the order of the work; kinds beyond the limit left out."""
        stages = dict.fromkeys(get_args(Stage), 0)
        for kind in self.failures.values():
            stages[kind.stage] = stages.get(kind.stage, 0) + kind.count
        return {stage: count for stage, count in stages.items() if count}


def read_rows(store: Store, record: ShardRecord, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Columns of a shard's metadata, one dictionary a row, in order of the file.

    Raises:
        ShardError: the file is not the recorded one, or no table of samples.
    """
    name = metadata_name(record.shard_index)
    if sha256_of(store, name) != record.metadata_sha256:
        raise damaged(store, record, "is damaged: its bytes are not those recorded", name)
    return read_metadata(store, record, columns).to_pylist()


def gather(
    store: Store,
    records: Iterable[ShardRecord],
    classes: ClassSet,
    *,
    each_row: Callable[[ShardRecord, dict[str, Any]], None] = lambda record, row: None,
) -> Statistics:
    """The statistics of the shards.

    Args:
        store: of the run.
        records: in the order in which they are to be read.
        classes: that the masks are of.
        each_row: is handed every row as well, so that a second pass is spared.

    Raises:
        ShardError: a shard's metadata is damaged, or of other classes.
    """
    statistics = Statistics.of(classes)
    for record in records:
        for row in _valid(store, record, classes):
            statistics.add(row)
            each_row(record, row)
    return statistics


def _valid(store: Store, record: ShardRecord, classes: ClassSet) -> Iterator[dict[str, Any]]:
    known = {entry.id for entry in classes.classes}
    for row in read_rows(store, record, COLUMNS):
        if not known.issuperset(targets_of(row)):
            raise ShardError(
                f"{store.url}/{metadata_name(record.shard_index)}: class ids must be those of "
                f"{classes.name}, got {row['class_ids']} in sample {row['key']}"
            )
        yield row
