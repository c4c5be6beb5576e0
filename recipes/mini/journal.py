"""The CSV logs of a run, which a resumed run goes on with as if it had never stopped."""

from __future__ import annotations

import csv
from pathlib import Path

from recipes.mini.loop import Progress

TRAIN_LOG = "train.csv"
PROBE_LOG = "probes.csv"


def append_row(path: Path, row: dict[str, object]) -> None:
    """Adds a row to the log, with the names of the columns before the first one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def progress_row(progress: Progress) -> dict[str, object]:
    """The row of ``train.csv`` for a report."""
    return {
        "step": progress.step,
        "samples": progress.samples,
        "loss": f"{progress.loss:.6g}",
        "gradient_norm": f"{progress.gradient_norm:.6g}",
        "learning_rate": f"{progress.learning_rate:.6g}",
        "samples_per_second": f"{progress.samples_per_second:.6g}",
    }


def forget_after(path: Path, step: int) -> None:
    """Drops the rows of steps that a crash undid: they will be taken again."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or ())
        kept = [row for row in reader if int(row["step"]) <= step]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
