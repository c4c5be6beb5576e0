"""Intersections, unions and what is made of them: IoU, its means, intervals and sweeps.

The protocol of the OVAM paper (methods 7.3): a picture is scored for one class at a time, pixels
are summed over pictures, the mean over classes has no background. numpy only; this module does not
know where masks come from.

Shapes: R scored rows (picture x class), T thresholds, K classes of the set, D bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from ovamgen.classes.class_set import ClassSet
from ovamgen.masks.iou import iou

BOOTSTRAP_DRAWS = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Counts:
    """Pixels of every scored row, and what is needed to group them."""

    classes: ClassSet
    keys: tuple[str, ...]
    """The picture of each row; a picture has a row for each of its classes."""
    class_ids: Int64[np.ndarray, " R"]
    included: Bool[np.ndarray, " R"]
    """The prompt names the class (methods 7.2)."""
    intersections: Int64[np.ndarray, " R"]
    unions: Int64[np.ndarray, " R"]

    def select(self, chosen: Bool[np.ndarray, " R"]) -> Counts:
        """The rows that are chosen."""
        return replace(
            self,
            keys=tuple(key for key, taken in zip(self.keys, chosen, strict=True) if taken),
            class_ids=self.class_ids[chosen],
            included=self.included[chosen],
            intersections=self.intersections[chosen],
            unions=self.unions[chosen],
        )

    def at(
        self, step: int, intersections: Int64[np.ndarray, "R T"], unions: Int64[np.ndarray, "R T"]
    ) -> Counts:
        """The same rows at one threshold of a sweep."""
        return replace(self, intersections=intersections[:, step], unions=unions[:, step])

    @property
    def places(self) -> Int64[np.ndarray, " R"]:
        """The place of each row's class among the K of the set."""
        ids = [entry.id for entry in self.classes.classes]
        return np.searchsorted(ids, self.class_ids).astype(np.int64)

    def ious(self) -> Float64[np.ndarray, " R"]:
        """IoU of each row, NaN where the union is empty: nothing was there and nothing claimed."""
        return iou(self.intersections, self.unions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its bootstrap percentile interval, all as fractions."""

    value: float
    low: float
    high: float


def plain_values(found: Interval | None) -> dict[str, float] | None:
    """An interval for JSON, rounded to six digits; None where there is none."""
    if found is None:
        return None
    return {name: round(value, 6) for name, value in asdict(found).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class IouTable:
    """What a set of rows comes to."""

    classes: ClassSet
    per_class: Mapping[str, Interval]
    """By the class's name, of the classes that occur."""
    absent: tuple[str, ...]
    """Classes without a pixel of truth or mask in any row: left out of the mean."""
    miou: Interval | None
    """Unweighted mean over the classes that occur, without background; None where none does."""
    overall: Interval | None
    """All intersections by all unions."""
    pictures: int
    rows: int

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "miou": plain_values(self.miou),
            "overall": plain_values(self.overall),
            "per_class": {name: plain_values(found) for name, found in self.per_class.items()},
            "absent_classes": list(self.absent),
            "classes": len(self.per_class),
            "pictures": self.pictures,
            "rows": self.rows,
        }


def iou_table(counts: Counts, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> IouTable:
    """IoU by class, their mean and the overall IoU, with bootstrap intervals over pictures.

    Pictures are drawn with replacement, all rows of a picture together. A class that a draw
    happens to miss is left out of that draw's mean.

    Args:
        counts: rows; possibly none.
        draws: bootstrap draws.
        seed: of the draws; equal pictures and equal seeds give equal draws.
    """
    intersections, unions = _by_class(counts)
    per_class = iou(intersections, unions)
    resampled = _resample(counts, draws, seed)
    occurs = unions > 0
    names = [entry.name for entry in counts.classes.classes]
    return IouTable(
        classes=counts.classes,
        per_class={
            name: _interval(per_class[place], resampled.per_class[:, place])
            for place, name in enumerate(names)
            if occurs[place]
        },
        absent=tuple(name for place, name in enumerate(names) if not occurs[place]),
        miou=_interval(_mean(per_class[None])[0], resampled.miou) if occurs.any() else None,
        overall=(
            _interval(float(intersections.sum() / unions.sum()), resampled.overall)
            if occurs.any()
            else None
        ),
        pictures=len(set(counts.keys)),
        rows=len(counts.keys),
    )


def miou_difference(
    first: Counts, second: Counts, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> Interval | None:
    """How much larger the mIoU of the second is, with an interval over the pictures of both.

    Both are drawn together, so that what makes a picture hard cancels out.

    Args:
        first: rows.
        second: rows of the same pictures and classes; others are left out on both sides.
        draws: bootstrap draws.
        seed: of the draws.
    """
    shared = set(_names(first)) & set(_names(second))
    a, b = (
        counts.select(np.array([name in shared for name in _names(counts)], dtype=bool))
        for counts in (first, second)
    )
    values = [_mean(iou(*_by_class(counts))[None])[0] for counts in (a, b)]
    if not shared or not np.isfinite(values).all():
        return None
    spread = _resample(b, draws, seed).miou - _resample(a, draws, seed).miou
    return _interval(values[1] - values[0], spread)


def miou(counts: Counts) -> float:
    """The foreground mIoU of the rows, without an interval; NaN where no class occurs."""
    return float(_mean(iou(*_by_class(counts))[None])[0])


def miou_over_tau(
    counts: Counts, intersections: Int64[np.ndarray, "R T"], unions: Int64[np.ndarray, "R T"]
) -> Float64[np.ndarray, " T"]:
    """The foreground mIoU of the rows at each threshold, NaN where no class occurs."""
    steps = range(intersections.shape[1])
    sums = [iou(*_by_class(counts.at(step, intersections, unions))) for step in steps]
    return _mean(np.stack(sums)) if sums else np.zeros(0)


def best_tau(mious: Float64[np.ndarray, " T"], taus: Sequence[float], default: float) -> float:
    """The threshold of the largest mIoU; on equal ones the nearest to the default."""
    if not np.isfinite(mious).any():
        return default
    best = np.nanmax(mious)
    ties = [tau for tau, value in zip(taus, mious, strict=True) if value == best]
    return min(ties, key=lambda tau: (abs(tau - default), tau))


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    per_class: Float64[np.ndarray, "D K"]
    miou: Float64[np.ndarray, " D"]
    overall: Float64[np.ndarray, " D"]


def _resample(counts: Counts, draws: int, seed: int) -> _Draws:
    """All figures of every bootstrap draw; pictures are numbered by their sorted keys."""
    names, classes = sorted(set(counts.keys)), len(counts.classes)
    if not names:
        empty = np.full(draws, np.nan)
        return _Draws(np.full((draws, classes), np.nan), empty, empty)
    places = {name: place for place, name in enumerate(names)}
    rows = np.array([places[key] for key in counts.keys])
    sums = np.zeros((2, len(names), classes))
    for total, pixels in zip(sums, (counts.intersections, counts.unions), strict=True):
        np.add.at(total, (rows, counts.places), pixels)
    generator = np.random.default_rng(seed)
    often = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    intersections, unions = often @ sums[0], often @ sums[1]
    per_class = iou(intersections, unions)
    overall = iou(intersections.sum(axis=1), unions.sum(axis=1))
    return _Draws(per_class, _mean(per_class), overall)


def _interval(value: float, draws: Float64[np.ndarray, " D"]) -> Interval:
    usable = draws[np.isfinite(draws)]
    if not len(usable):
        return Interval(value=float(value), low=float(value), high=float(value))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(usable, [tail, 1 - tail])
    return Interval(value=float(value), low=float(low), high=float(high))


def _by_class(counts: Counts) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]]:
    sums = np.zeros((2, len(counts.classes)), np.int64)
    for total, pixels in zip(sums, (counts.intersections, counts.unions), strict=True):
        np.add.at(total, counts.places, pixels)
    return sums[0], sums[1]


def _mean(values: Float[np.ndarray, "D K"]) -> Float64[np.ndarray, " D"]:
    """The mean of each row's finite values, NaN where it has none."""
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0.0).sum(axis=1), there.sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _names(counts: Counts) -> list[tuple[str, int]]:
    return list(zip(counts.keys, counts.class_ids.tolist(), strict=True))
