"""A segmentor against the true label maps of a VOC folder: scores, tables and pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from ovamgen.bounds import MAX_SCORED_PIXELS
from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import palette_of
from ovamgen.classes.loading import is_default
from ovamgen.console.wording import listed
from ovamgen.corpus.export.voc import palette_png
from ovamgen.errors import ConfigError
from ovamgen.masks.confusion import ConfusionMatrix, Scores
from ovamgen.pictures.example import Example
from ovamgen.pictures.voc import VocFolder
from ovamgen.segmentor.network import Segmentor, load_segmentor
from ovamgen.segmentor.sheet import Shown, draw_sheet
from ovamgen.storage.whole_files import write_whole

SHOWN_PICTURES = 24
_MOST_ROWS = 40
"""Rows of a terminal's table; of a larger set those that are true or predicted have one."""
_BATCH = 16


@runtime_checkable
class Counter(Protocol):
    """Who is told how far the scoring is."""

    def start(self, total: int) -> None:
        """There are so many pictures."""

    def add(self) -> None:
        """One more is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentorScore:
    """How a segmentor did on a split; of VOC's classes in the words of its protocol."""

    classes: ClassSet
    split: str
    images: int
    scores: Scores
    all_background: float
    """mIoU with background of a network that predicts it everywhere: the baseline."""
    mirrored: bool

    @property
    def of_voc(self) -> bool:
        """Whether it is a score by VOC's protocol, which has VOC's classes."""
        return is_default(self.classes)

    @property
    def labels(self) -> dict[int, str]:
        """The name of each label that is scored, background first."""
        named = {entry.id: entry.name for entry in self.classes.classes}
        return {BACKGROUND: "background", **named}

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is null. The means of VOC say over how many classes they are."""
        scores, labels = self.scores, self.labels
        protocol = "one confusion matrix over the split, pixels of truth 255 left out"
        with_background, foreground = ("_21", "_20") if self.of_voc else ("", "")
        return {
            "protocol": f"VOC: {protocol}" if self.of_voc else protocol,
            **({} if self.of_voc else {"classes": self.classes.name}),
            "split": self.split,
            "images": self.images,
            "mirrored": self.mirrored,
            f"miou{with_background}_with_background": _plain(scores.miou_with_background),
            f"miou{foreground}_foreground": _plain(scores.miou_foreground),
            "pixel_accuracy": _plain(scores.pixel_accuracy),
            f"miou{with_background}_of_all_background": _plain(self.all_background),
            "iou": {name: _plain(scores.iou[label]) for label, name in labels.items()},
            "truth_pixels": {n: int(scores.truth_pixels[label]) for label, n in labels.items()},
            "absent": self._absent(),
            "only_predicted": self._only_predicted(),
        }

    def to_markdown(self) -> str:
        """A page with the means and the table of classes."""
        scores = self.scores
        lines = [
            f"# Segmentor on '{self.split}'",
            "",
            f"{'VOC protocol: one' if self.of_voc else f'Classes {self.classes.name}, one'} "
            f"confusion matrix over {self.images} pictures, pixels of truth {IGNORE} left out; in "
            "per cent.",
            "",
            "| figure | value |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in self._figures()),
            "",
            "| class | IoU | true pixels |",
            "|---|---|---|",
        ]
        for label, name in self.labels.items():
            lines.append(
                f"| {name} | {_percent(scores.iou[label])} | {scores.truth_pixels[label]} |"
            )
        return "\n".join([*lines, "", *self._notes()]).rstrip() + "\n"

    def to_text(self) -> str:
        """The same for a terminal."""
        figures = [f"{name:<42}{value:>7}" for name, value in self._figures()]
        every = len(self.labels) <= _MOST_ROWS + 1
        classes = [
            f"  {name:<40}{_percent(self.scores.iou[label]):>7}"
            for label, name in self.labels.items()
            if every or not math.isnan(self.scores.iou[label])
        ]
        heading = f"{self.images} pictures of '{self.split}', IoU in per cent"
        return "\n".join([heading, *figures, "IoU of each class", *classes, *self._notes()])

    def _figures(self) -> list[tuple[str, str]]:
        scores, count = self.scores, len(self.classes)
        with_background = f"mIoU over {count + 1} classes with background"
        if self.of_voc:
            with_background += " (VOC)"
        return [
            (with_background, _percent(scores.miou_with_background)),
            (f"mIoU over the {count} foreground classes", _percent(scores.miou_foreground)),
            ("pixel accuracy", _percent(scores.pixel_accuracy)),
            (f"mIoU over {count + 1} of all background", _percent(self.all_background)),
        ]

    def _absent(self) -> list[str]:
        """Names of the classes that are neither true nor predicted, without the unused labels."""
        return [self.labels[label] for label in self.scores.absent if label in self.labels]

    def _only_predicted(self) -> list[str]:
        return [self.labels[label] for label in self.scores.only_predicted]

    def _notes(self) -> list[str]:
        notes = []
        if absent := self._absent():
            names = listed(absent, _MOST_ROWS)
            notes.append(f"Absent from truth and prediction, left out of the means: {names}.")
        if only := self._only_predicted():
            as_voc = " as VOC does" if self.of_voc else ""
            names = listed(only, _MOST_ROWS)
            notes.append(f"Predicted but never true, counted as 0{as_voc}: {names}.")
        return notes


def score_segmentor(
    checkpoint: str | Path,
    voc: str | Path,
    split: str,
    out: str | Path,
    *,
    classes: ClassSet | None = None,
    limit: int | None = None,
    mirror: bool = False,
    predictions: bool = False,
    device: str = "auto",
    counter: Counter | None = None,
) -> SegmentorScore:
    """The segmentor's score; ``scores.json``, ``scores.md`` and ``sheet.png`` are written.

    Args:
        checkpoint: folder of a training, or its .safetensors.
        voc: folder in VOC's layout, whose labels can tell the segmentor's classes.
        split: which of its lists.
        out: folder of the files; those of an earlier scoring are replaced.
        classes: that the segmentor must have; any where not given.
        limit: only the first so many pictures.
        mirror: average with the mirrored picture's probabilities.
        predictions: write the predicted label map of each picture too, ``predictions/NAME.png``
            with the palette, as VOC has masks; those of other pictures stay.
        device: auto, cpu or cuda.
        counter: told of every picture.

    Raises:
        ConfigError: the checkpoint or the data cannot be used; no score is written.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    segmentor = load_segmentor(checkpoint, _device(device))
    if classes not in (None, segmentor.classes):
        raise ConfigError(
            f"{checkpoint} labels the classes {segmentor.classes.identity}, not "
            f"{classes.identity}: give a segmentor of those, or leave --classes out"
        )
    classes = segmentor.classes
    folder = VocFolder.open(voc, split, classes)
    total = len(folder) if limit is None else min(limit, len(folder))
    target = Path(out).expanduser()
    palette = palette_of(classes).tobytes()
    matrix = ConfusionMatrix(classes.labels)
    shown: list[Shown] = []
    wanted = set(np.linspace(0, total - 1, min(SHOWN_PICTURES, total)).round().astype(int).tolist())
    if counter is not None:
        counter.start(total)
    for index, (example, predicted) in enumerate(_labelled(segmentor, folder, total, mirror)):
        matrix.add(example.labels, predicted)
        if predictions:
            file = target / "predictions" / f"{example.name}.png"
            write_whole(file, palette_png(predicted, palette), make_folder=True)
        if index in wanted:
            shown.append(
                Shown(
                    name=example.name,
                    image=example.image,
                    truth=example.labels,
                    predicted=predicted,
                )
            )
        if counter is not None:
            counter.add()
    baseline = ConfusionMatrix(classes.labels)
    baseline.counts[:, 0] = matrix.counts.sum(axis=1)
    score = SegmentorScore(
        classes=classes,
        split=split,
        images=total,
        scores=matrix.scores(),
        all_background=baseline.scores().miou_with_background,
        mirrored=mirror,
    )
    _write(target, score, shown)
    return score


def _labelled(
    segmentor: Segmentor, folder: VocFolder, total: int, mirror: bool
) -> Iterator[tuple[Example, UInt8[np.ndarray, "H W"]]]:
    """Every picture with its prediction, neighbours of one size together."""
    waiting: list[Example] = []

    def flush() -> Iterator[tuple[Example, UInt8[np.ndarray, "H W"]]]:
        if waiting:
            labels = segmentor.predict([example.image for example in waiting], mirror=mirror)
            yield from zip(waiting, labels, strict=True)
            waiting.clear()

    for index in range(total):
        example = folder.read(index)
        height, width, _ = example.image.shape
        if height * width > MAX_SCORED_PIXELS:
            raise ConfigError(
                f"pictures to score on must have at most {MAX_SCORED_PIXELS} pixels, "
                f"{folder.names[index]} is {width} x {height}: resize it and its mask"
            )
        most = min(_BATCH, MAX_SCORED_PIXELS // (height * width))
        if waiting and (len(waiting) >= most or waiting[0].image.shape != example.image.shape):
            yield from flush()
        waiting.append(example)
    yield from flush()


def _write(out: Path, score: SegmentorScore, shown: list[Shown]) -> None:
    title, count = f"Segmentor on '{score.split}'", len(score.classes)
    note = (
        f"mIoU {_percent(score.scores.miou_with_background)} over {count + 1} classes with "
        f"background, {_percent(score.scores.miou_foreground)} over {count} without; "
        f"{score.images} pictures"
    )
    contents = {
        "sheet.png": draw_sheet(shown, score.classes, title=title, note=note),
        "scores.md": score.to_markdown().encode(),
        "scores.json": (json.dumps(score.to_json(), indent=2) + "\n").encode(),
    }
    for name, content in contents.items():
        write_whole(out / name, content, make_folder=True)


def _device(name: str) -> torch.device:
    there = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, got '{name}'")
    if name == "cuda" and not there:
        raise ConfigError("device cuda was asked for, this machine has none: give --device cpu")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def _percent(value: float) -> str:
    return "absent" if math.isnan(value) else f"{100 * value:.1f}"
