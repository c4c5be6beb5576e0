"""The figure of the driver's bench."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ovamgen.whole_files import write_whole

FIGURE_NAME = "driver.png"


def draw_driver(found: dict[str, Any], folder: Path) -> Path:
    """Writes utilisation, memory and the killed worker as one picture."""
    figure = Figure(figsize=(11, 7), layout="constrained", dpi=110)
    axes = figure.subplots(2, 2)
    rows = found["driver"]
    _utilisation(axes[0][0], rows)
    _cost(axes[0][1], rows)
    _memory(axes[1][0], rows)
    _recovery(axes[1][1], found["recovery"])
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    path = folder / FIGURE_NAME
    write_whole(path, sink.getvalue(), make_folder=True)
    return path


def _utilisation(axes: Axes, rows: list[dict[str, Any]]) -> None:
    places = range(len(rows))
    axes.bar(places, [100 * row["utilisation"] for row in rows], color="#4477aa")
    axes.axhline(98, color="#cc3311", linestyle="--", linewidth=1, label="98 %")
    axes.set_xticks(places, [str(row["workers"]) for row in rows])
    axes.set_xlabel("simulated workers")
    axes.set_ylabel("% of their time on batches")
    axes.set_ylim(0, 105)
    axes.legend(loc="lower left")


def _cost(axes: Axes, rows: list[dict[str, Any]]) -> None:
    workers = [row["workers"] for row in rows]
    names = {"driver_ms_per_batch": "scheduling thread", "process_ms_per_batch": "whole process"}
    for name, label in names.items():
        axes.plot(workers, [row[name] for row in rows], marker="o", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(workers, [str(count) for count in workers])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("simulated workers")
    axes.set_ylabel("driver: CPU ms a batch")
    axes.legend()


def _memory(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        points = row["timeline"]
        axes.plot(
            [point["seconds"] for point in points],
            [point["private_bytes"] / 1e6 for point in points],
            label=f"{row['workers']} workers",
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("s since all workers are at work")
    axes.set_ylabel("driver: private MB")
    axes.legend()


def _recovery(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for number, row in enumerate(rows):
        seconds, batches = zip(*row["timeline"], strict=True)
        axes.step(seconds, batches, where="post", label=f"run {number + 1}")
    axes.axvline(0, color="#cc3311", linestyle="--", linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("s since one of the workers was killed")
    axes.set_ylabel("batches a second")
    if rows:
        axes.legend()
