"""Memory and time of a plan by its number of captions, and of resuming over finished shards."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ovamgen.bench.scale.corpora import FINGERPRINT, SPLIT, write_captions, write_finished_shards
from ovamgen.bench.scale.watch import Watch
from ovamgen.config import PlanConfig
from ovamgen.plan.plan import Plan
from ovamgen.plan.planning import make_plan
from ovamgen.plan.summary import PlanSummary
from ovamgen.shards.shard_record import finished_shards
from ovamgen.storage.local import LocalStore

_FAR_TASKS = 20
"""Shards that are read at places far from each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMeasurement:
    """One plan, made and read again, in a process of its own."""

    captions: int
    source_bytes: int
    plan_bytes: int
    make_seconds: float
    """Processor time."""
    make_private_bytes: int
    """The most private memory while it was made, beyond what the process had before."""
    make_resident_bytes: int
    """The same with mapped files, which the system can take back."""
    open_seconds: float
    """Processor time of opening the finished plan, which checks every row."""
    open_private_bytes: int
    """The most private memory that opening, counting and walking took."""
    summary_seconds: float
    """Processor time of the counts that ``ovamgen plan`` prints."""
    task_ms: float
    """Processor time of reading one shard of 1,000 samples, in order."""
    far_task_ms: float
    """The same of shards anywhere in the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeMeasurement:
    """Looking at the finished shards of a folder, as a resuming run does."""

    shards: int
    seconds: float
    """Median of the rounds."""
    processor_seconds: float
    load: float
    """Processes that wanted a core in the last minute."""


def measure_plan(captions: int) -> PlanMeasurement:
    """Plans so many captions; best called in a fresh process, since it measures memory."""
    with tempfile.TemporaryDirectory(prefix="ovamgen-simulate-") as folder:
        source, saved = Path(folder) / "captions.jsonl", Path(folder) / "plan.parquet"
        write_captions(source, captions)
        with Watch() as making:
            begin = time.process_time()
            plan = make_plan(PlanConfig(captions=str(source)))
            make_seconds = time.process_time() - begin
            with saved.open("wb") as file:
                plan.write_to(file)
        del plan
        with Watch() as reading:
            begin = time.process_time()
            plan = Plan.open(saved.open("rb"))
            open_seconds = time.process_time() - begin
            begin = time.process_time()
            PlanSummary.of(plan)
            summary_seconds = time.process_time() - begin
            far = len(plan.tasks) * 7919 // 10_000 + 1
            places = [number * far % len(plan.tasks) for number in range(_FAR_TASKS)]
            return PlanMeasurement(
                captions=captions,
                source_bytes=source.stat().st_size,
                plan_bytes=saved.stat().st_size,
                make_seconds=round(make_seconds, 2),
                make_private_bytes=_growth(making, "private_bytes"),
                make_resident_bytes=_growth(making, "resident_bytes"),
                open_seconds=round(open_seconds, 2),
                task_ms=_task_ms(plan, range(min(100, len(plan.tasks)))),
                far_task_ms=_task_ms(plan, places),
                summary_seconds=round(summary_seconds, 2),
                open_private_bytes=_growth(reading, "private_bytes"),
            )


def measure_resume(shards: int, *, rounds: int = 3) -> ResumeMeasurement:
    """Looks at a folder of so many finished shards."""
    with tempfile.TemporaryDirectory(prefix="ovamgen-simulate-") as folder:
        write_finished_shards(Path(folder), shards)
        store = LocalStore(folder)
        seconds, processor = [], []
        for _ in range(rounds):
            begin, used = time.monotonic(), time.process_time()
            found = finished_shards(store, SPLIT, range(shards), FINGERPRINT)
            seconds.append(time.monotonic() - begin)
            processor.append(time.process_time() - used)
            assert len(found) == shards, "every shard that was made must be found"
        return ResumeMeasurement(
            shards=shards,
            seconds=round(statistics.median(seconds), 2),
            processor_seconds=round(statistics.median(processor), 2),
            load=round(os.getloadavg()[0], 1),
        )


def _growth(watch: Watch, name: str) -> int:
    return watch.peak(name) - int(getattr(watch.looks[0], name))


def _task_ms(plan: Plan, places: range | list[int]) -> float:
    begin = time.process_time()
    for place in places:
        len(plan.tasks[place].specs)
    return round(1e3 * (time.process_time() - begin) / len(places), 2)
