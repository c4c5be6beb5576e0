"""Intersection over union: pixels of one class of a label map, and the grids of thresholds.

numpy only; it does not know where maps and label maps come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from ovamgen.classes.class_entry import IGNORE

FINE_TAUS: tuple[float, ...] = tuple(step / 100 for step in range(1, 100))
"""Thresholds of the tokens' curves: 0.01, 0.02, ... 0.99."""
TAUS: tuple[float, ...] = FINE_TAUS[4::5]
"""Thresholds of a sweep: 0.05, 0.10, ... 0.95."""


def iou(
    intersections: Int64[np.ndarray, "*shape"] | Float64[np.ndarray, "*shape"],
    unions: Int64[np.ndarray, "*shape"] | Float64[np.ndarray, "*shape"],
) -> Float64[np.ndarray, "*shape"]:
    """Intersection over union, [0, 1]; NaN where the union is empty."""
    empty = np.full(np.shape(unions), np.nan)
    return np.divide(intersections, unions, out=empty, where=np.asarray(unions) > 0)


def count_pixels(
    mask: Bool[np.ndarray, "H W"], truth: UInt8[np.ndarray, "H W"], class_id: int
) -> tuple[int, int]:
    """Pixels of intersection and union of a mask and one class of a label map.

    Pixels that the truth marks 255 count in neither.
    """
    known = truth != IGNORE
    target = truth == class_id
    claimed = mask & known
    return int((claimed & target).sum()), int((claimed | target).sum())


def sweep_pixels(
    scores: Float32[np.ndarray, "H W"],
    truth: UInt8[np.ndarray, "H W"],
    class_id: int,
    taus: Sequence[float] = TAUS,
) -> tuple[Int64[np.ndarray, " T"], Int64[np.ndarray, " T"]]:
    """Intersections and unions of the masks ``scores > tau``, for all thresholds from one sort.

    Args:
        scores: in [0, 1].
        truth: label map; 255 is left out.
        class_id: of the target.
        taus: thresholds, in any order.
    """
    target = truth == class_id
    inside = np.sort(scores[target])
    outside = np.sort(scores[~target & (truth != IGNORE)])
    # comparisons are made in float32, as `scores > tau` is
    limits = np.asarray(taus, np.float32)
    hits = len(inside) - np.searchsorted(inside, limits, side="right")
    alarms = len(outside) - np.searchsorted(outside, limits, side="right")
    return hits.astype(np.int64), (len(inside) + alarms).astype(np.int64)
