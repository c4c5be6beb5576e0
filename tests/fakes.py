"""An engine without a diffusion model: it draws discs, and its heatmaps attend to them.

It is a real implementation of the engine's interface whose masks have a known answer. It can be
told to misbehave, so that the tests of faults need no patching: while loading (``load``), or by
words in a prompt: ``poison`` raises, ``deadly`` kills its own process as often as ``kills`` says.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ovamgen.bench.scale.engine import simulated_model
from ovamgen.config import RunConfig
from ovamgen.errors import ConfigError
from ovamgen.records import SampleSpec, SynthesisBatch

SIDE = 64
CELLS = 16


class DiscEngine:
    """Deterministic images of coloured discs, one for each target."""

    def __init__(
        self,
        config: RunConfig,
        *,
        load: str = "well",
        batch_seconds: float = 0.0,
        marks: Path | None = None,
        kills: int = 0,
    ) -> None:
        if load == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if load == "refuse":
            raise ConfigError("the weights of the disc engine cannot be read")
        self.batch_seconds = batch_seconds
        self.marks = marks
        self.kills = kills
        self.info = simulated_model(config, SIDE, CELLS)
        self.tokens_digest = "1" * 64
        self.class_ids = tuple(entry.id for entry in config.classes.classes)

    def synthesise(self, specs: Sequence[SampleSpec]) -> SynthesisBatch:
        time.sleep(self.batch_seconds)
        for spec in specs:
            if "poison" in spec.prompt:
                raise RuntimeError(f"bad luck with {spec.key}")
            if "deadly" in spec.prompt:
                self._die_in_time()
        drawn = [_disc(spec, self.class_ids) for spec in specs]
        # the number of neighbours reaches the pixels: a batch of another composition shows
        for image, _ in drawn:
            image[0, 0, 0] = len(specs)
        return SynthesisBatch(
            specs=tuple(specs),
            images=np.stack([image for image, _ in drawn]),
            heatmaps=np.stack([maps for _, maps in drawn]),
            heatmap_max=tuple((0.5,) * len(self.class_ids) for _ in specs),
            class_ids=self.class_ids,
            all_classes=True,
            unsafe=tuple(False for _ in specs),
        )

    def _die_in_time(self) -> None:
        assert self.marks is not None
        deaths = len(list(self.marks.iterdir()))
        if deaths < self.kills:
            (self.marks / f"{deaths}-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def _disc(spec: SampleSpec, class_ids: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(spec.seed)
    image = random.integers(90, 110, (SIDE, SIDE, 3), np.uint8)
    maps = np.full((len(class_ids), CELLS, CELLS), 0.1, np.float16)
    step = SIDE // CELLS
    for target in spec.targets:
        centre = random.uniform(0.3, 0.7, 2) * SIDE
        radius = random.uniform(0.15, 0.25) * SIDE
        y, x = np.mgrid[:SIDE, :SIDE] + 0.5
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        image[inside] = _colour(target.class_name)
        cells = inside.reshape(CELLS, step, CELLS, step).mean((1, 3))
        maps[class_ids.index(target.class_id)] = np.maximum(cells, 0.1).astype(np.float16)
    maps /= maps.max((1, 2), keepdims=True)
    return image, maps


def _colour(name: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(name.encode()).digest()[:3], np.uint8)
