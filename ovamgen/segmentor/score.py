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

from ovamgen.classes.voc import IGNORE, VOC_CLASSES
from ovamgen.errors import ConfigError
from ovamgen.masks.confusion import ConfusionMatrix, Scores
from ovamgen.pictures.example import Example
from ovamgen.pictures.voc import VocFolder
from ovamgen.segmentor.network import Segmentor, load_segmentor
from ovamgen.segmentor.sheet import Shown, draw_sheet
from ovamgen.storage.whole_files import write_whole

CLASS_NAMES = ("background", *(voc_class.name for voc_class in VOC_CLASSES))
SHOWN_PICTURES = 24
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
    """How a segmentor did on a split."""

    split: str
    images: int
    scores: Scores
    all_background: float
    """mIoU over 21 classes of a network that predicts background everywhere: the baseline."""
    mirrored: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is null."""
        scores = self.scores
        return {
            "protocol": "VOC: one confusion matrix over the split, pixels of truth 255 left out",
            "split": self.split,
            "images": self.images,
            "mirrored": self.mirrored,
            "miou_21_with_background": _plain(scores.miou_with_background),
            "miou_20_foreground": _plain(scores.miou_foreground),
            "pixel_accuracy": _plain(scores.pixel_accuracy),
            "miou_21_of_all_background": _plain(self.all_background),
            "iou": {name: _plain(v) for name, v in zip(CLASS_NAMES, scores.iou, strict=True)},
            "truth_pixels": dict(zip(CLASS_NAMES, scores.truth_pixels.tolist(), strict=True)),
            "absent": [CLASS_NAMES[index] for index in scores.absent],
            "only_predicted": [CLASS_NAMES[index] for index in scores.only_predicted],
        }

    def to_markdown(self) -> str:
        """A page with the means and the table of classes."""
        scores = self.scores
        lines = [
            f"# Segmentor on '{self.split}'",
            "",
            f"VOC protocol: one confusion matrix over {self.images} pictures, pixels of truth "
            f"{IGNORE} left out; in per cent.",
            "",
            "| figure | value |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in self._figures()),
            "",
            "| class | IoU | true pixels |",
            "|---|---|---|",
        ]
        for index, name in enumerate(CLASS_NAMES):
            lines.append(
                f"| {name} | {_percent(scores.iou[index])} | {scores.truth_pixels[index]} |"
            )
        return "\n".join([*lines, "", *self._notes()]).rstrip() + "\n"

    def to_text(self) -> str:
        """The same for a terminal."""
        figures = [f"{name:<42}{value:>7}" for name, value in self._figures()]
        classes = [
            f"  {name:<40}{_percent(value):>7}"
            for name, value in zip(CLASS_NAMES, self.scores.iou, strict=True)
        ]
        heading = f"{self.images} pictures of '{self.split}', IoU in per cent"
        return "\n".join([heading, *figures, "IoU of each class", *classes, *self._notes()])

    def _figures(self) -> list[tuple[str, str]]:
        scores = self.scores
        return [
            ("mIoU over 21 classes with background (VOC)", _percent(scores.miou_with_background)),
            ("mIoU over the 20 foreground classes", _percent(scores.miou_foreground)),
            ("pixel accuracy", _percent(scores.pixel_accuracy)),
            ("mIoU over 21 of all background", _percent(self.all_background)),
        ]

    def _notes(self) -> list[str]:
        notes = []
        if self.scores.absent:
            names = ", ".join(CLASS_NAMES[index] for index in self.scores.absent)
            notes.append(f"Absent from truth and prediction, left out of the means: {names}.")
        if self.scores.only_predicted:
            names = ", ".join(CLASS_NAMES[index] for index in self.scores.only_predicted)
            notes.append(f"Predicted but never true, counted as 0 as VOC does: {names}.")
        return notes


def score_segmentor(
    checkpoint: str | Path,
    voc: str | Path,
    split: str,
    out: str | Path,
    *,
    limit: int | None = None,
    mirror: bool = False,
    device: str = "auto",
    counter: Counter | None = None,
) -> SegmentorScore:
    """The segmentor's score; ``scores.json``, ``scores.md`` and ``sheet.png`` are written.

    Args:
        checkpoint: folder of a training, or its .safetensors.
        voc: folder in VOC's layout.
        split: which of its lists.
        out: folder of the files; those of an earlier scoring are replaced.
        limit: only the first so many pictures.
        mirror: average with the mirrored picture's probabilities.
        device: auto, cpu or cuda.
        counter: told of every picture.

    Raises:
        ConfigError: the checkpoint or the data cannot be used; nothing is written.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}")
    folder = VocFolder.open(voc, split)
    total = len(folder) if limit is None else min(limit, len(folder))
    segmentor = load_segmentor(checkpoint, _device(device))
    matrix = ConfusionMatrix()
    shown: list[Shown] = []
    wanted = set(np.linspace(0, total - 1, min(SHOWN_PICTURES, total)).round().astype(int).tolist())
    if counter is not None:
        counter.start(total)
    for index, (example, predicted) in enumerate(_labelled(segmentor, folder, total, mirror)):
        matrix.add(example.labels, predicted)
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
    baseline = ConfusionMatrix()
    baseline.counts[:, 0] = matrix.counts.sum(axis=1)
    score = SegmentorScore(
        split=split,
        images=total,
        scores=matrix.scores(),
        all_background=baseline.scores().miou_with_background,
        mirrored=mirror,
    )
    _write(Path(out).expanduser(), score, shown)
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
        if waiting and (len(waiting) == _BATCH or waiting[0].image.shape != example.image.shape):
            yield from flush()
        waiting.append(example)
    yield from flush()


def _write(out: Path, score: SegmentorScore, shown: list[Shown]) -> None:
    note = (
        f"mIoU {_percent(score.scores.miou_with_background)} over 21 classes with background, "
        f"{_percent(score.scores.miou_foreground)} over 20 without; {score.images} pictures"
    )
    contents = {
        "sheet.png": draw_sheet(shown, title=f"Segmentor on '{score.split}'", note=note),
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
