"""What is left of the throughput after a worker's process was killed and replaced."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ovamgen.bench.scale.driving import DriveSettings, drive, simulated_run
from ovamgen.bench.scale.engine import Interval, read_marks
from ovamgen.cluster.processes import OwnProcesses
from ovamgen.errors import ConfigError

KILL_AFTER_BATCHES = 15
"""Batches that every worker has made when one of them is killed."""

_WARM_AFTER_BATCHES = 5
"""Batches of every worker that do not count: the refine processes start meanwhile."""

DEFAULTS = DriveSettings(workers=4, batch_seconds=0.5, batches=50, shard_size=200, cpus=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryMeasurement:
    """Batches a second before and after."""

    workers: int
    batch_seconds: float
    before: float
    """From when all workers are warm to the kill."""
    after: float
    """From the first batch of the new worker on."""
    ratio: float
    """after / before"""
    seconds_without: float
    """From the kill to the first batch of the new worker."""
    samples: int
    failed: int
    timeline: tuple[tuple[int, int], ...]
    """(whole seconds since the kill, batches that ended in that second)"""


def measure_recovery(settings: DriveSettings = DEFAULTS) -> RecoveryMeasurement:
    """A simulated run, each worker in a process of its own, one of which gets a SIGKILL.

    Raises:
        ConfigError: the run was over before the new worker had work for long enough.
    """
    with simulated_run(settings) as (run, marks, factory):
        with _Killer(marks, settings.workers) as killer:
            drive(run, OwnProcesses(run.config, factory))
        summary = run.summary()
        measured = _measurement(settings, read_marks(marks), killer.killed_at)
        return replace(measured, samples=summary.samples, failed=summary.failed)


class _Killer:
    """A context manager with a thread that kills one worker once all have made some batches."""

    def __init__(self, marks: Path, workers: int) -> None:
        self.killed_at = 0.0
        self._marks, self._workers = marks, workers
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._wait_and_kill, daemon=True)

    def __enter__(self) -> _Killer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _wait_and_kill(self) -> None:
        while not self._ended.wait(0.05):
            batches = read_marks(self._marks)
            counts = [len(intervals) for intervals in batches.values()]
            if len(counts) == self._workers and min(counts) >= KILL_AFTER_BATCHES:
                process, _, _ = min(batches).partition("-")
                os.kill(int(process), signal.SIGKILL)
                self.killed_at = time.monotonic()
                return


def _measurement(
    settings: DriveSettings, batches: Mapping[str, list[Interval]], killed_at: float
) -> RecoveryMeasurement:
    firsts = {name: intervals[0].begin for name, intervals in batches.items() if intervals}
    new = [begin for begin in firsts.values() if begin > killed_at]
    lasts = [intervals[-1].end for intervals in batches.values() if intervals]
    living = [end for end in lasts if end > killed_at]
    if not killed_at or not new or len(living) != settings.workers:
        raise ConfigError("the run was over before the killed worker was replaced: more --batches")
    begin = max(
        intervals[_WARM_AFTER_BATCHES].begin
        for name, intervals in batches.items()
        if firsts[name] < killed_at
    )
    again, end = min(new), min(living)
    ends = sorted(b.end for intervals in batches.values() for b in intervals)

    def rate(start: float, stop: float) -> float:
        return sum(start < moment <= stop for moment in ends) / (stop - start)

    before, after = rate(begin, killed_at), rate(again, end)
    seconds = range(int(begin - killed_at) - 1, int(end - killed_at) + 1)
    return RecoveryMeasurement(
        workers=settings.workers,
        batch_seconds=settings.batch_seconds,
        before=round(before, 3),
        after=round(after, 3),
        ratio=round(after / before, 4),
        seconds_without=round(again - killed_at, 2),
        samples=0,
        failed=0,
        timeline=tuple(
            (second, sum(killed_at + second < moment <= killed_at + second + 1 for moment in ends))
            for second in seconds
        ),
    )
