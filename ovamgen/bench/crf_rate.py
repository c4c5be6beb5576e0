"""How many images a core refines by dense CRF, by image size; no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float32, UInt8
from PIL import Image

from ovamgen.bench.timing import Spread
from ovamgen.config import MaskConfig
from ovamgen.masks.binarise import class_scores
from ovamgen.masks.crf import dense_crf

_IMAGES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CrfRate:
    """Dense CRF of one target at one image size, on one core: it has no threads of its own."""

    side_px: int
    seconds: Spread
    """Processor time of one image: what else the machine does hardly counts."""
    images_per_second: float
    """Rate of a core that does nothing else; the median of the rounds."""


def crf_rates(
    images: UInt8[np.ndarray, "B H W 3"],
    heatmaps: Float16[np.ndarray, "B K h w"],
    masks: MaskConfig,
    sides: Sequence[int],
    rounds: int,
) -> list[CrfRate]:
    """Rates at each size, of the first few images resized to it: its time depends on colours.

    Args:
        images: as they were drawn.
        heatmaps: in [0, 1]; the class with the largest mean is each image's target.
        masks: its threshold and its dense CRF.
        sides: pixels of the square images.
        rounds: how often each image is refined.
    """
    rates = []
    for side in sides:
        inputs = crf_inputs(images, heatmaps, masks, side)
        seconds = []
        for number in range(-1, rounds):
            for picture, probabilities in inputs:
                begin = time.process_time()
                dense_crf(picture, probabilities, masks.crf)
                if number >= 0:
                    seconds.append(time.process_time() - begin)
        spread = Spread.of(seconds)
        rates.append(CrfRate(side_px=side, seconds=spread, images_per_second=1 / spread.median))
    return rates


def crf_inputs(
    images: UInt8[np.ndarray, "B H W 3"],
    heatmaps: Float16[np.ndarray, "B K h w"],
    masks: MaskConfig,
    side: int,
) -> list[tuple[UInt8[np.ndarray, "S S 3"], Float32[np.ndarray, "2 S S"]]]:
    """The first few images at a size, each with its hard mask as probabilities of two labels."""
    found = []
    for image, maps in zip(images[:_IMAGES], heatmaps[:_IMAGES], strict=True):
        picture = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        target = maps[[int(maps.astype(np.float32).mean((1, 2)).argmax())]]
        inside = class_scores(target, side, side, masks)[0] > (masks.tau or 0.0)
        found.append((picture, np.stack([~inside, inside]).astype(np.float32)))
    return found
