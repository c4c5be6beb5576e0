"""The real driver, with real Ray tasks, over workers that only wait: how many it can keep busy."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from ovamgen.bench.scale.corpora import write_captions
from ovamgen.bench.scale.engine import Interval, SimulatedEngine, read_marks
from ovamgen.bench.scale.refining import simulated_refine
from ovamgen.bench.scale.watch import Look, Watch
from ovamgen.cluster.connection import object_store_bytes, simulated_cluster
from ovamgen.cluster.driver import generate_on_ray
from ovamgen.cluster.processes import OwnProcesses, SharedProcesses
from ovamgen.config import RunConfig, build_config
from ovamgen.console.progress import RunProgress
from ovamgen.errors import ConfigError
from ovamgen.run.bad_samples import EngineFactory
from ovamgen.run.run import Run, open_run


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveSettings:
    """One simulated run."""

    workers: int
    batch_seconds: float = 2.0
    """Seconds that a batch takes on a simulated GPU."""
    batches: int = 24
    """For each worker."""
    warmup: int = 6
    """The first of them, which do not count: the refine processes start meanwhile, which on a
    machine of few cores takes the time of all others."""
    batch_size: int = 8
    shard_size: int = 1000
    cpus: int = 8
    """CPUs that Ray is told of."""
    seats: int = 32
    """Simulated workers in one process, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveMeasurement:
    """What was seen while all workers were at work."""

    workers: int
    batch_seconds: float
    batches: int
    """In the window: all workers are warm, and none has made its last batch yet."""
    window_seconds: float
    utilisation: float
    """Share of the workers' time in the window that was spent on batches."""
    utilisation_from_start: float
    """The same since every worker has its first batch."""
    gap_ms_median: float
    """Between two batches of a worker."""
    gap_ms_p99: float
    driver_ms_per_batch: float
    """Processor time of the scheduling thread."""
    process_ms_per_batch: float
    """Processor time of the driver's whole process, Ray's own threads included."""
    driver_load: float
    """Share of one core that the scheduling thread takes."""
    private_bytes_first: int
    """Private bytes of the driver's process when the window begins."""
    private_bytes_last: int
    private_bytes_peak: int
    in_flight_bytes_peak: int
    """As the driver counts them."""
    object_store_bytes_peak: int
    object_store_bytes_total: int
    samples: int
    """Made in the whole run."""
    timeline: tuple[dict[str, float], ...]
    """Second by second: seconds, private_bytes, object_store_bytes, in_flight_bytes."""


def measure_driver(settings: DriveSettings) -> DriveMeasurement:
    """One simulated run on the Ray that is connected, or on one of this machine.

    Raises:
        ConfigError: the run is too short for its workers to be at work all at once.
    """
    with simulated_run(settings) as (run, marks, factory):
        processes = SharedProcesses(run.config, factory, min(settings.seats, settings.workers))
        with Watch(1.0, partial(_others, run)) as watch:
            drive(run, processes)
        return _measurement(settings, run, read_marks(marks), watch)


@contextlib.contextmanager
def simulated_run(settings: DriveSettings) -> Iterator[tuple[Run, Path, EngineFactory]]:
    """A run on simulated engines, the folder that they write down batches in, and how they load."""
    with tempfile.TemporaryDirectory(prefix="ovamgen-simulate-") as folder:
        marks = Path(folder) / "marks"
        marks.mkdir()
        config = simulated_config(Path(folder), settings)
        factory = partial(SimulatedEngine, batch_seconds=settings.batch_seconds, marks=marks)
        with simulated_cluster(settings.cpus), open_run(config) as run:
            yield run, marks, factory


def simulated_config(root: Path, settings: DriveSettings) -> RunConfig:
    """The configuration of a simulated run, whose captions and output lie in the folder."""
    captions = root / "captions.jsonl"
    write_captions(captions, settings.workers * settings.batches * settings.batch_size)
    return build_config(
        {
            "plan": {
                "captions": str(captions),
                "shard_size": settings.shard_size,
                "batch_size": settings.batch_size,
            },
            "model": {"id": "mini"},
            "out": str(root / "out"),
            "runtime": {"workers": settings.workers, "cpu_threads": 1, "drain_seconds": 0},
        }
    )


def drive(run: Run, processes: SharedProcesses | OwnProcesses) -> None:
    """Makes the run's shards with the real driver, showing its progress."""
    with RunProgress(
        total_samples=run.total_samples, done_samples=0, total_shards=len(run.pending)
    ) as progress:
        generate_on_ray(run, progress, processes=processes, refine=simulated_refine)


def steady_window(batches: Mapping[str, list[Interval]], warmup: int = 0) -> Interval:
    """The time in which every worker was at work, from a batch to a batch.

    Args:
        batches: of each worker, in their order.
        warmup: batches that every worker must have made before.

    Raises:
        ConfigError: there is none.
    """
    if not batches or min(map(len, batches.values())) <= warmup:
        raise ConfigError(f"a worker got at most {warmup} batches: give each more --batches")
    begin = max(intervals[warmup].begin for intervals in batches.values())
    end = min(intervals[-1].end for intervals in batches.values())
    if end <= begin:
        raise ConfigError(
            "the workers were never at work all at once: give each more --batches, or longer ones"
        )
    return Interval(begin, end)


def _others(run: Run) -> dict[str, float]:
    used, total = object_store_bytes()
    return {
        "object_store_bytes": used,
        "object_store_bytes_total": total,
        "in_flight_bytes": run.journal.in_flight_bytes,
    }


def _measurement(
    settings: DriveSettings, run: Run, marks: dict[str, list[Interval]], watch: Watch
) -> DriveMeasurement:
    window = steady_window(marks, settings.warmup)
    length = window.end - window.begin
    ended = sum(
        window.begin < batch.end <= window.end for batches in marks.values() for batch in batches
    )
    gaps = sorted(
        1e3 * (after.begin - before.end)
        for batches in marks.values()
        for before, after in pairwise(batches)
        if window.begin <= before.end <= window.end
    )
    looks = watch.looks
    thread, process = (
        _grown(looks, name, window) for name in ("thread_seconds", "process_seconds")
    )
    private = [look.private_bytes for look in watch.within(window.begin, window.end)] or [0]
    return DriveMeasurement(
        workers=settings.workers,
        batch_seconds=settings.batch_seconds,
        batches=ended,
        window_seconds=round(length, 3),
        utilisation=_share(marks, window),
        utilisation_from_start=_share(marks, steady_window(marks)),
        gap_ms_median=round(statistics.median(gaps or [0.0]), 2),
        gap_ms_p99=round(float(np.percentile(gaps or [0.0], 99)), 2),
        driver_ms_per_batch=round(1e3 * thread / ended, 3),
        process_ms_per_batch=round(1e3 * process / ended, 3),
        driver_load=round(thread / length, 4),
        private_bytes_first=private[0],
        private_bytes_last=private[-1],
        private_bytes_peak=max(private),
        in_flight_bytes_peak=_peak(looks, "in_flight_bytes"),
        object_store_bytes_peak=_peak(looks, "object_store_bytes"),
        object_store_bytes_total=_peak(looks, "object_store_bytes_total"),
        samples=run.summary().samples,
        timeline=tuple(_points(looks, window.begin)),
    )


def _share(marks: Mapping[str, list[Interval]], window: Interval) -> float:
    """The share of the workers' time in the window in which they worked on a batch."""
    busy = sum(
        max(0.0, min(batch.end, window.end) - max(batch.begin, window.begin))
        for batches in marks.values()
        for batch in batches
    )
    return round(busy / ((window.end - window.begin) * len(marks)), 5)


def _grown(looks: list[Look], name: str, window: Interval) -> float:
    """How much a count has grown in the window, between the looks by straight lines."""
    times = [look.at for look in looks]
    values = [getattr(look, name) for look in looks]
    first, last = np.interp([window.begin, window.end], times, values)
    return float(last - first)


def _peak(looks: list[Look], name: str) -> int:
    return round(max(look.others[name] for look in looks))


def _points(looks: list[Look], begin: float) -> Iterator[dict[str, float]]:
    for look in looks:
        yield {
            "seconds": round(look.at - begin, 2),
            "private_bytes": look.private_bytes,
            "object_store_bytes": round(look.others["object_store_bytes"]),
            "in_flight_bytes": look.others["in_flight_bytes"],
        }
