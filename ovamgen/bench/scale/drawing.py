"""The figure of the driver's bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ovamgen.storage.whole_files import write_whole

FIGURE_NAME = "driver.png"

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Okabe and Ito's, told apart by colour-blind readers too."""
_MARK = "#b2182b"


def draw_driver(found: dict[str, Any], folder: Path) -> Path:
    """Writes utilisation, cost, memory and the killed worker as one picture."""
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    figure = Figure(figsize=(11, 7.5), layout=layout, dpi=110)
    axes = figure.subplots(2, 2)
    rows = found["driver"]
    _utilisation(axes[0][0], rows)
    _cost(axes[0][1], rows)
    _memory(axes[1][0], rows)
    _recovery(axes[1][1], found["recovery"])
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.title.set_fontweight("bold")
    path = folder / FIGURE_NAME
    nameless = {"Software": None}
    write_whole(
        path,
        lambda file: figure.savefig(file, format="png", metadata=nameless),
        make_folder=True,
    )
    return path


def _utilisation(axes: Axes, rows: list[dict[str, Any]]) -> None:
    places = range(len(rows))
    bars = axes.bar(places, [100 * row["utilisation"] for row in rows], 0.6, color=_COLOURS[0])
    axes.bar_label(bars, fmt="%.1f %%", label_type="center", color="white", fontsize=12)
    axes.axhline(98, color=_MARK, linestyle="--", linewidth=1)
    axes.annotate("target: 98 %", (len(rows) - 0.65, 101), ha="right", va="bottom", color=_MARK)
    axes.set_xticks(places, [str(row["workers"]) for row in rows])
    axes.set_xlabel("simulated workers")
    axes.set_ylabel("%")
    axes.set_ylim(0, 112)
    axes.set_title("Time that workers spend on batches")


def _cost(axes: Axes, rows: list[dict[str, Any]]) -> None:
    workers = [row["workers"] for row in rows]
    names = {"process_ms_per_batch": "whole process", "driver_ms_per_batch": "scheduling thread"}
    for (name, label), colour in zip(names.items(), _COLOURS, strict=False):
        axes.plot(workers, [row[name] for row in rows], marker="o", label=label, color=colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks(workers, [str(count) for count in workers])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("simulated workers")
    axes.set_ylabel("processor ms a batch")
    axes.set_title("What a batch costs the driver")
    axes.legend(frameon=False)


def _memory(axes: Axes, rows: list[dict[str, Any]]) -> None:
    highest = 0.0
    for number, row in enumerate(rows):
        points = row["timeline"]
        megabytes = [point["private_bytes"] / 1e6 for point in points]
        highest = max(highest, *megabytes)
        axes.plot(
            [point["seconds"] for point in points],
            megabytes,
            color=_COLOURS[number % len(_COLOURS)],
            label=f"{row['workers']} worker{'s' * (row['workers'] != 1)}",
        )
    axes.set_ylim(0, 1.1 * highest)
    axes.set_xlabel("seconds since all workers are at work")
    axes.set_ylabel("private MB")
    axes.set_title("The driver's memory")
    axes.legend(frameon=False, loc="lower right")


def _recovery(axes: Axes, rows: list[dict[str, Any]]) -> None:
    axes.axvline(0, color=_MARK, linestyle="--", linewidth=1)
    for number, row in enumerate(rows):
        # the last second is not a whole one
        seconds, batches = zip(*row["timeline"][:-1], strict=True)
        axes.step(
            seconds,
            batches,
            where="post",
            label=f"run {number + 1}",
            color=_COLOURS[number % len(_COLOURS)],
        )
    if rows:
        most = max(batches for row in rows for _, batches in row["timeline"])
        axes.set_ylim(0, 1.25 * most)
        axes.annotate("kill -9", (0.2, 1.15 * most), color=_MARK)
        axes.legend(frameon=False, loc="lower right")
    axes.set_xlabel("seconds since one of the workers was killed")
    axes.set_ylabel("batches a second")
    axes.set_title("A worker is killed")
