"""Throughput and time per stage, from what the processes of the runs wrote down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ovamgen.report.charts import bar
from ovamgen.run.timing import WORK_STAGES, WorkStage
from ovamgen.status.logs import ProcessTimes

_NAMES: dict[WorkStage, tuple[str, str]] = {
    "loading": ("loading", "the pipeline, in each worker"),
    "synthesis": ("synthesis", "images and heatmaps, on the workers"),
    "masks": ("masks", "threshold and dense CRF"),
    "encoding": ("encoding", "JPEG, PNG, JSON"),
    "writing": ("writing", "tars, metadata and their upload"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """A stage; numbers are text already."""

    label: str
    note: str
    seconds: str
    share: float
    each: str
    """Milliseconds or seconds for one image; "" where none was made."""
    bar: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What the section says."""

    images: int
    failed: int
    rate: str
    """Images a second of wall time, loading included."""
    wall: str
    processes: int
    """Processes that made the corpus; a resumed run has several."""
    ended_early: int
    """Those that died or were stopped: their last seconds may be missing."""
    workers: int
    device: str
    busy: float | None
    """Share of the workers' time that they drew; None where no worker is known."""
    rows: tuple[StageRow, ...]
    illegible: int
    """Files that could not be read."""
    missing: int
    """Samples of the corpus that no process is known to have made."""


def times_of(processes: Sequence[ProcessTimes], illegible: int, samples: int) -> Times | None:
    """The section's numbers, summed over all processes; None where nothing was recorded.

    Args:
        processes: of all runs on the corpus.
        illegible: files that could not be read.
        samples: that are in the corpus.
    """
    if not processes:
        return None
    images = sum(process.images for process in processes)
    wall = sum(process.wall_seconds for process in processes)
    seconds = {
        stage: sum(process.seconds.get(stage, 0.0) for process in processes)
        for stage in WORK_STAGES
    }
    worked = sum(process.workers * process.wall_seconds for process in processes)
    return Times(
        images=images,
        failed=sum(process.failed for process in processes),
        rate=f"{images / wall:.3g}" if wall else "0",
        wall=duration(wall),
        processes=len(processes),
        ended_early=sum(process.state != "complete" for process in processes),
        workers=max(process.workers for process in processes),
        device=", ".join(sorted({process.device for process in processes})),
        busy=min(1.0, seconds["synthesis"] / worked) if worked else None,
        rows=tuple(_row(stage, seconds, images) for stage in WORK_STAGES),
        illegible=illegible,
        missing=max(0, samples - images),
    )


def _row(stage: WorkStage, seconds: dict[WorkStage, float], images: int) -> StageRow:
    label, note = _NAMES[stage]
    value, whole = seconds[stage], sum(seconds.values())
    return StageRow(
        label=label,
        note=note,
        seconds=duration(value),
        share=value / whole if whole else 0.0,
        # loading is paid once for each worker, whatever it then makes
        each="" if stage == "loading" or not images else duration(value / images),
        bar=bar(
            round(1000 * value),
            round(1000 * max(seconds.values())),
            "one" if stage in ("loading", "synthesis") else "two",
        ),
    )


def duration(seconds: float) -> str:
    """``8 ms``, ``2.5 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 99.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for unit, size, below, rest in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // rest} {below}"
    return f"{whole} s"
