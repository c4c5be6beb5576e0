"""Intersections and unions of a thresholded map with its annotation, for all thresholds at once.

numpy only; it does not know where maps come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ovamgen.config import TOKEN_TAU, WORD_TAU
from ovamgen.masks.iou import FINE_TAUS, iou, sweep_pixels
from ovamgen.masks.resize import resize

PUBLISHED_TAUS = (WORD_TAU, TOKEN_TAU)


@dataclass(frozen=True, slots=True, eq=False)
class IouCounts:
    """Pixels in intersection and union at each threshold of `FINE_TAUS`, summed over images."""

    intersections: Int64[np.ndarray, " T"]
    unions: Int64[np.ndarray, " T"]

    def iou(self) -> Float64[np.ndarray, " T"]:
        """Intersection over union at each threshold, [0, 1]; 0 where the union is empty."""
        return np.nan_to_num(iou(self.intersections, self.unions))

    def at(self, tau: float) -> float:
        """IoU at one threshold of `FINE_TAUS`."""
        return float(self.iou()[index_of(tau)])

    def best(self) -> tuple[float, float]:
        """(tau, IoU) of the largest IoU; the smallest such tau."""
        index = int(self.iou().argmax())
        return FINE_TAUS[index], float(self.iou()[index])


def index_of(tau: float) -> int:
    """Where a threshold stands in `FINE_TAUS`."""
    return round(tau * 100) - 1


def total(counts: Iterable[IouCounts]) -> IouCounts:
    """The counts of all images together (methods 7.3: of one class)."""
    entries = list(counts)
    zero = np.zeros(len(FINE_TAUS), np.int64)
    return IouCounts(
        sum((entry.intersections for entry in entries), zero),
        sum((entry.unions for entry in entries), zero),
    )


def map_counts(raw: Float32[np.ndarray, "h w"], mask: Bool[np.ndarray, "H W"]) -> IouCounts:
    """The counts of one map: divided by its maximum, to the image's size, ``> tau``.

    The order and the bilinear taps are those of `ovamgen.masks.make_label_map` without CRF; a map
    that is nowhere positive claims nothing.

    Args:
        raw: finite and not negative.
        mask: the annotation, of the image's size.
    """
    scores = scaled_map(raw, mask.shape)
    return IouCounts(*sweep_pixels(scores, mask.astype(np.uint8), 1, FINE_TAUS))


def scaled_map(
    raw: Float32[np.ndarray, "h w"], size: tuple[int, ...]
) -> Float32[np.ndarray, "H W"]:
    """A map divided by its maximum, at the image's (height, width); zeros where it is all zero."""
    peak = raw.max()
    scaled = raw / peak if peak > 0 else np.zeros_like(raw)
    return resize(scaled[None], size[0], size[1], "bilinear")[0]


def curve_values(iou: Float64[np.ndarray, " T"]) -> dict[str, Any]:
    """A curve over `FINE_TAUS` for JSON, with its peak and the published thresholds; 4 digits."""
    best = int(iou.argmax())
    at = {f"iou_at_{tau:g}": round(float(iou[index_of(tau)]), 4) for tau in PUBLISHED_TAUS}
    return {
        **at,
        "best_tau": FINE_TAUS[best],
        "best_iou": round(float(iou[best]), 4),
        "iou": [round(float(value), 4) for value in iou],
    }


def mean_iou(by_class: Iterable[IouCounts]) -> Float64[np.ndarray, " T"]:
    """The unweighted mean over classes at each threshold, without background (methods 7.3)."""
    return np.mean([counts.iou() for counts in by_class], axis=0)
