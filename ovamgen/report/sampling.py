"""Which samples a page shows: the same ones every time, of every class, the best and the worst too.

Memory is bounded by the number asked for, whatever the size of the corpus.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Literal

from ovamgen.records import ShardRecord
from ovamgen.shards.schema import targets_of

Why = Literal["best", "worst", "drawn"]
"""Among the highest scores of its class, among the lowest, or drawn by the hash of its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A sample that may be shown, by what decides about it."""

    key: str
    shard_index: int
    class_ids: tuple[int, ...]
    """0 alone where it is to show no class."""
    score: float
    """The lowest of its targets' scores: a sample is as good as its worst target."""
    area: float
    """Fraction of the image that all its targets' masks cover together."""

    @property
    def order(self) -> str:
        """sha256 of the key: an order that has nothing to do with content or position."""
        return hashlib.sha256(self.key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Choice:
    """A sample that is shown, and why."""

    candidate: Candidate
    why: Why


class Sampler:
    """Takes every row once, and then says which samples to show."""

    def __init__(self, count: int) -> None:
        """At most ``count`` samples are shown."""
        self._count = count
        self._kept: dict[tuple[int, Why], list[Candidate]] = defaultdict(list)

    def add(self, record: ShardRecord, row: dict[str, Any]) -> None:
        """Take note of a row of the metadata; failed and flagged samples are never shown."""
        if row["status"] != "ok" or row["unsafe"] or not self._count:
            return
        candidate = Candidate(
            key=row["key"],
            shard_index=record.shard_index,
            class_ids=tuple(row["class_ids"]),
            score=min(row["scores"]),
            area=min(1.0, sum(row["areas"])) if targets_of(row) else 0.0,
        )
        for class_id in candidate.class_ids:
            for why in _RANK:
                kept = self._kept[class_id, why]
                kept.append(candidate)
                # cut now and then: sorting for every row would be slow, keeping all of them large
                if len(kept) > 2 * self._count + 64:
                    kept[:] = self._ranked(class_id, why)

    def choose(self) -> list[Choice]:
        """At most ``count`` samples, the most wanted first.

        Classes take turns in the order of their ids. Of each class come in turn the highest score,
        the lowest score, and two that are drawn by the hash of their keys. A sample with several
        classes is shown once.
        """
        queues = [self._queue(class_id) for class_id in sorted({c for c, _ in self._kept})]
        taken: dict[str, Choice] = {}
        for choice in chain.from_iterable(zip_longest(*queues)):
            if len(taken) == self._count:
                break
            if choice is not None:
                taken.setdefault(choice.candidate.key, choice)
        return list(taken.values())

    def _ranked(self, class_id: int, why: Why) -> list[Candidate]:
        return sorted(self._kept[class_id, why], key=_RANK[why])[: self._count]

    def _queue(self, class_id: int) -> list[Choice]:
        """All kept samples of a class, each once, in the order in which they are wanted."""
        best, worst, drawn = (self._ranked(class_id, why) for why in ("best", "worst", "drawn"))
        rounds = zip_longest(best, worst, drawn[::2], drawn[1::2])
        whys: tuple[Why, ...] = ("best", "worst", "drawn", "drawn")
        queue: dict[str, Choice] = {}
        for candidates in rounds:
            for why, candidate in zip(whys, candidates, strict=True):
                if candidate is not None:
                    queue.setdefault(candidate.key, Choice(candidate, why))
        return list(queue.values())


_RANK: dict[Why, Any] = {
    "best": lambda candidate: (-candidate.score, candidate.key),
    "worst": lambda candidate: (candidate.score, candidate.key),
    "drawn": lambda candidate: (candidate.order, candidate.key),
}
