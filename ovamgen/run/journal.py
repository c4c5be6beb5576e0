"""The books of a run while it goes on: what is open since when, and what took how long.

The driver and the local runner write into the journal; a thread of its own puts it under ``logs/``
every few seconds, so that nobody waits for a disk or a bucket. Nothing in it reaches a shard.
"""

from __future__ import annotations

import re
import statistics
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from ovamgen.records import SampleFailure
from ovamgen.run.timing import Seconds, StageClock

_REMEMBERED = 200
"""Durations that a median is taken of."""
_RATE_SECONDS = 180.0

_KIND = re.compile(r"[A-Za-z_]\w*(?=: )")


@dataclass(slots=True)
class _Shard:
    began: float
    samples: int
    ended: int = 0


@dataclass(slots=True)
class _Worker:
    since: float
    batches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a journal counts, at one instant."""

    made: int
    failed: int
    failures: dict[tuple[str, str], int]
    """By stage and kind."""
    shards: int
    seconds: Seconds
    workers_ready: int
    in_flight_bytes: int
    worker_restarts: int
    shard_restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWork:
    """What is under way, in seconds before now."""

    shards: list[tuple[int, float, int, int]]
    """(index, seconds open, samples, of which ended), the oldest first."""
    workers: list[tuple[str, float, int]]
    """(name, seconds since it answered, batches it holds)."""
    shard_seconds: float | None
    batch_seconds: float | None


class RunJournal:
    """Counts and durations of this process's part of a run; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._clock = StageClock()
        self._shards: dict[int, _Shard] = {}
        self._workers: dict[str, _Worker] = {}
        self._shard_seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._batch_seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._failures: Counter[tuple[str, str]] = Counter()
        self._rate: deque[tuple[float, int]] = deque()
        self._made = self._failed = self._finished = 0
        self._worker_restarts = self._shard_restarts = 0
        self.began = time.monotonic()
        self.most_workers = 0
        """Workers that were ready at once."""
        self.workers_wanted = 0
        """Workers that were started, ready or not."""
        self.in_flight_bytes = 0
        """Bytes that wait for a later stage; the scheduler sets it."""

    @property
    def is_loaded(self) -> bool:
        """A pipeline has been loaded: until then a run leaves no trace."""
        return self.most_workers > 0

    # ---- what happens

    def worker_ready(self, name: str, seconds: Seconds) -> None:
        """A pipeline is loaded."""
        with self._lock:
            self._workers[name] = _Worker(time.monotonic())
            self.most_workers = max(self.most_workers, len(self._workers))
            self._clock.add(seconds)

    def worker_lost(self, name: str) -> None:
        """A worker has died; another will take its place."""
        with self._lock:
            self._workers.pop(name, None)
            self._worker_restarts += 1

    def batch_given(self, name: str) -> None:
        """A worker has a batch, or one more."""
        with self._lock:
            if worker := self._workers.get(name):
                if not worker.batches:
                    worker.since = time.monotonic()
                worker.batches += 1

    def batch_ended(self, name: str, seconds: Seconds) -> None:
        """A worker has answered."""
        with self._lock:
            self._clock.add(seconds)
            self._batch_seconds.append(sum(seconds.values()))
            if worker := self._workers.get(name):
                worker.since = time.monotonic()
                worker.batches = max(0, worker.batches - 1)

    def spent(self, seconds: Seconds) -> None:
        """A task of the CPU side has taken so long."""
        with self._lock:
            self._clock.add(seconds)

    def shard_begun(self, index: int, samples: int) -> None:
        """A shard's first batches may be given out."""
        with self._lock:
            self._shards[index] = _Shard(time.monotonic(), samples)

    def ended(self, index: int, made: int = 0, failures: Sequence[SampleFailure] = ()) -> None:
        """Samples of an open shard are encoded, or have failed."""
        with self._lock:
            self._made += made
            self._failed += len(failures)
            self._failures.update((f.stage, kind_of(f.reason)) for f in failures)
            if shard := self._shards.get(index):
                shard.ended += made + len(failures)

    def shard_lost(self, index: int, made: int, failed: int) -> None:
        """An open shard begins again: so many samples of it are not made after all."""
        with self._lock:
            self._made -= made
            self._failed -= failed
            self._shard_restarts += 1
            if shard := self._shards.get(index):
                shard.ended = 0

    def shard_finished(self, index: int) -> None:
        """A shard is published."""
        with self._lock:
            self._finished += 1
            if shard := self._shards.pop(index, None):
                self._shard_seconds.append(time.monotonic() - shard.began)

    # ---- what is told

    def totals(self) -> Totals:
        """The counts."""
        with self._lock:
            return Totals(
                made=self._made,
                failed=self._failed,
                failures=dict(self._failures),
                shards=self._finished,
                seconds=dict(self._clock.seconds),
                workers_ready=len(self._workers),
                in_flight_bytes=self.in_flight_bytes,
                worker_restarts=self._worker_restarts,
                shard_restarts=self._shard_restarts,
            )

    def open_work(self) -> OpenWork:
        """What is under way."""
        now = time.monotonic()
        with self._lock:
            return OpenWork(
                shards=[
                    (index, now - shard.began, shard.samples, shard.ended)
                    for index, shard in sorted(self._shards.items(), key=lambda s: s[1].began)
                ],
                workers=[
                    (name, now - worker.since, worker.batches)
                    for name, worker in sorted(self._workers.items())
                ],
                shard_seconds=_median(self._shard_seconds),
                batch_seconds=_median(self._batch_seconds),
            )

    def rate(self) -> float:
        """Images a second over the last minutes, as far as the calls of this method go back."""
        now = time.monotonic()
        with self._lock:
            self._rate.append((now, self._made))
            while len(self._rate) > 2 and now - self._rate[0][0] > _RATE_SECONDS:
                self._rate.popleft()
            then, made = self._rate[0]
            if len(self._rate) == 1:
                then, made = self.began, 0
            return max(0.0, (self._made - made) / max(now - then, 1e-9))


def kind_of(reason: str) -> str:
    """The error's type in a failure's reason, ``RuntimeError``; "other" where it names none.

    Reasons hold keys and numbers: as the label of a metric they would be without end.
    """
    found = _KIND.match(reason)
    return found[0] if found else "other"


def _median(values: Sequence[float] | deque[float]) -> float | None:
    return statistics.median(values) if values else None
