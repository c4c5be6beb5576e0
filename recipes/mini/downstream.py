"""What a corpus is worth: networks trained on parts of it, on real pictures and on mixes.

Every row is trained with several seeds and scored on the same pictures by the VOC protocol. Each
training keeps its folder, so an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from pydantic import Field

from ovamgen.config import Section, validated
from ovamgen.errors import ConfigError
from ovamgen.evaluate.plots import COLOURS, STYLE, save_figure
from ovamgen.evaluate.table_s1 import claim, train_and_score
from ovamgen.evaluate.tables import markdown_table, write_json, write_text
from ovamgen.segmentor.settings import TrainSettings, build_settings
from ovamgen.shards.process_pool import run_in_processes


class StudyRow(Section):
    """One kind of training data, or of training."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Of its folder, and in the table."""
    samples: int = Field(ge=1)
    """Pictures to learn from, for the table and as the place in the plot."""
    curve: str | None = None
    """Rows of one curve are joined in the plot."""
    level: bool = False
    """Drawn as a line over the whole plot, in a band of its spread: real pictures."""
    train: dict[str, Any]
    """Settings of its trainings over those of the study: ``shards``, ``real``, ``ema_decay``."""
    pretrain: dict[str, Any] | None = None
    """Those of the first of two trainings, where they are others."""


class Study(Section):
    """Rows, seeds, trainings, and what is scored on."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    voc: str
    """Folder in VOC's layout."""
    split: str = "test"
    pretrain: dict[str, Any] = Field(default_factory=dict)
    """A training on small pictures that the last one goes on from; none where it is empty."""
    train: dict[str, Any]
    rows: tuple[StudyRow, ...] = Field(min_length=1)

    def trainings(self, row: StudyRow, seed: int) -> tuple[TrainSettings, ...]:
        """The trainings of one row and seed, one after another.

        Raises:
            ConfigError: a setting is unknown or not allowed.
        """
        first = row.train if row.pretrain is None else row.pretrain
        phases = [(self.pretrain, first), (self.train, row.train)]
        return tuple(build_settings(phase, own, {"seed": seed}) for phase, own in phases if phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How the networks of one row did."""

    row: StudyRow
    miou: tuple[float, ...]
    """VOC's mean over 21 labels, in [0, 1], one a seed."""

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds (of a sample of them); 0 of one."""
        return stdev(self.miou) if len(self.miou) > 1 else 0.0


def read_study(data: dict[str, Any]) -> Study:
    """The study in a configuration file's mapping.

    Raises:
        ConfigError: a key is missing, unknown or of another kind, or two rows have one name.
    """
    study = validated(Study, data, "study setting")
    names = [row.name for row in study.rows]
    if len(set(names)) != len(names):
        raise ConfigError(f"the rows of a study must have different names, got {names}")
    return study


def run_study(
    study: Study, out: Path, processes: int, say: Callable[[str], None] = print
) -> list[Found]:
    """All rows; writes ``study.json``, ``study.md`` and, of curves, ``study.png`` at the end.

    Args:
        study: what to train.
        out: folder; one of each row and seed in ``rows/``.
        processes: trainings at a time.
        say: told what was scored.

    Raises:
        ConfigError: settings that cannot be used, or the folder is of another study.
        Interrupted: a signal came; the same command goes on.
    """
    jobs = [(row, seed) for seed in study.seeds for row in study.rows]
    for row, seed in jobs:
        trainings = [training.model_dump(mode="json") for training in study.trainings(row, seed)]
        asked = {"trainings": trainings, "voc": study.voc, "split": study.split}
        claim(_place(out, row, seed), asked, "study")
    found: dict[tuple[str, int], float] = {}
    work = partial(_train_one, study, out)
    for name, seed, miou in run_in_processes(work, jobs, processes, flag="--processes"):
        found[name, seed] = miou
        say(f"{len(found)} of {len(jobs)}: {name}, seed {seed}: mIoU {100 * miou:.1f}")
    rows = [
        Found(row=row, miou=tuple(found[row.name, seed] for seed in study.seeds))
        for row in study.rows
    ]
    write_json(
        out / "study.json",
        {
            "study": study.model_dump(mode="json"),
            "rows": [{"name": each.row.name, "miou": list(each.miou)} for each in rows],
        },
    )
    write_text(out / "study.md", to_markdown(rows) + "\n")
    if any(each.row.curve for each in rows):
        plot(rows, out / "study")
    return rows


def to_markdown(rows: Sequence[Found]) -> str:
    """The table: mean and spread of each row, and its share of the first real line."""
    level = next((each for each in rows if each.row.level), None)
    head = ["trained on", "pictures", "mIoU", "spread", "of the real line"]
    cells = []
    for each in rows:
        share = "–" if level is None else f"{100 * mean(each.miou) / mean(level.miou):.0f} %"
        figures = [f"{100 * mean(each.miou):.1f}", f"{100 * each.spread:.1f}"]
        cells.append([each.row.name, str(each.row.samples), *figures, share])
    return markdown_table(head, cells)


def plot(rows: Sequence[Found], path: Path) -> None:
    """Writes ``path.png`` and ``path.pdf``: mIoU over the pictures, a curve a kind of data."""
    names = list(dict.fromkeys(each.row.curve for each in rows if each.row.curve))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for colour, name in zip(COLOURS, names, strict=False):
            points = sorted(
                (each for each in rows if each.row.curve == name), key=lambda e: e.row.samples
            )
            axes.errorbar(
                [each.row.samples for each in points],
                [100 * mean(each.miou) for each in points],
                [100 * each.spread for each in points],
                color=colour,
                marker="o",
                markersize=5,
                capsize=3,
                label=name,
            )
        for each in rows:
            if each.row.level:
                value, spread = 100 * mean(each.miou), 100 * each.spread
                axes.axhline(value, color="#444444", linestyle=(0, (4, 2)), label=each.row.name)
                band = (value - spread, value + spread)
                axes.axhspan(*band, color="#444444", alpha=0.1, linewidth=0)
        axes.set_xscale("log")
        ticks = sorted({each.row.samples for each in rows if each.row.curve})
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="pictures", ylabel="mIoU × 100, 21 labels", ylim=(0, None))
        figure.legend(loc="outside right center", fontsize=8)
        save_figure(figure, path)


def _train_one(
    study: Study, out: Path, job: tuple[StudyRow, int], after: Callable[[], None]
) -> tuple[str, int, float]:
    row, seed = job
    place = _place(out, row, seed)
    scores = place / "scores" / "scores.json"
    if scores.exists():
        score = json.loads(scores.read_text("utf-8"))
    else:
        score = train_and_score(study.trainings(row, seed), place, study.voc, study.split)
    after()
    return row.name, seed, float(score["miou_21_with_background"])


def _place(out: Path, row: StudyRow, seed: int) -> Path:
    return out / "rows" / f"{row.name}-{seed}"
