"""An engine that takes a known time and gives batches of real size: a GPU as the driver sees it."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, UInt8

from ovamgen.config import RunConfig
from ovamgen.records import ModelInfo, SampleSpec, SynthesisBatch

SIDE_PX = 512
CELLS = 64
CLASS_IDS = tuple(range(1, 21))

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Interval:
    """A batch on a simulated GPU, time.monotonic() of its machine."""

    begin: float
    end: float


def simulated_model(config: RunConfig, side_px: int, cells: int) -> ModelInfo:
    """What an engine without a model says of it: square images, and latents of so many cells."""
    return ModelInfo(
        model=config.model.id,
        revision="",
        digest="0" * 64,
        height=side_px,
        width=side_px,
        vae_scale_factor=side_px // cells,
        context_width=768,
        cross_attention_layers=15,
        trained=False,
    )


class SimulatedEngine:
    """Sleeps for as long as a batch takes, and hands over images and heatmaps of SD 1.5's sizes.

    Every batch is written down in the marks folder, a file for each engine named by its process.
    """

    def __init__(self, config: RunConfig, *, batch_seconds: float, marks: Path) -> None:
        """Loads nothing."""
        self._seconds = batch_seconds
        self._marks = marks / f"{os.getpid()}-{next(_numbers)}.txt"
        self.info = simulated_model(config, SIDE_PX, CELLS)
        self.tokens_digest = self.info.digest

    def synthesise(self, specs: Sequence[SampleSpec]) -> SynthesisBatch:
        """The batch, after its time."""
        begin = time.monotonic()
        time.sleep(self._seconds)
        images, heatmaps = _pixels(len(specs))
        with self._marks.open("a") as file:
            file.write(f"{begin} {time.monotonic()}\n")
        return SynthesisBatch(
            specs=tuple(specs),
            images=images,
            heatmaps=heatmaps,
            heatmap_max=((0.5,) * len(CLASS_IDS),) * len(specs),
            class_ids=CLASS_IDS,
            all_classes=True,
            unsafe=(False,) * len(specs),
        )


def read_marks(folder: Path) -> dict[str, list[Interval]]:
    """The batches of each engine in their order, by the name of its file: process and number."""
    return {
        path.stem: [
            Interval(*map(float, line.split()))
            for line in path.read_text().splitlines()
            if line.count(" ") == 1
        ]
        for path in sorted(folder.glob("*.txt"))
    }


@functools.cache
def _pixels(
    count: int,
) -> tuple[UInt8[np.ndarray, "B H W 3"], Float16[np.ndarray, "B K h w"]]:
    """Noise: what would compress well would take less room in the object store's spill files."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, SIDE_PX, SIDE_PX, 3), np.uint8)
    heatmaps = random.random((count, len(CLASS_IDS), CELLS, CELLS), np.float32)
    return images, heatmaps.astype(np.float16)
