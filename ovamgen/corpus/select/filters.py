"""Which samples a selection keeps, and why it leaves the others out.

The filters of the published 20K set (methods 7.4) and plain limits; numbers in, verdicts out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ovamgen.classes.class_set import ClassSet
from ovamgen.corpus.select.table import Candidates
from ovamgen.errors import ConfigError

REASONS = {
    "unsafe": "flagged by the safety checker",
    "uniform": "image of one colour",
    "area_low_quantile": "mask at or below the class's lower area quantile",
    "area_high_quantile": "mask at or above the class's upper area quantile",
    "clip_quantile": "CLIP score at or below the class's quantile",
    "min_consistency": "agrees less than the minimum with the mask of its mirrored picture",
    "class": "shows a class that was not asked for",
    "min_score": "score below the minimum",
    "min_area": "mask below the minimum area",
    "max_area": "mask above the maximum area",
    "max_per_class": "its class has enough samples",
}
"""Why a sample is left out, in the order in which reasons are looked for: the first one counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSettings:
    """What a selection keeps. A sample with several targets is kept if every one of them passes."""

    drop_uniform: bool = True
    read_pictures: bool = False
    """Find uniform images of any colour; otherwise those of a grey, black included."""
    drop_unsafe: bool = False
    area_quantiles: tuple[float, float] | None = (0.05, 0.95)
    """A mask's area must lie strictly between these quantiles of its class."""
    clip_quantile: float = 0.25
    """A CLIP score must lie strictly above this quantile of its class, where there are scores."""
    min_consistency: float | None = None
    """The least IoU of a target with what is found in the mirrored picture, [0, 1]."""
    classes: tuple[str, ...] = ()
    """By any of their names; all where empty."""
    min_score: float | None = None
    """The least score of a target, [0, 1]."""
    min_area: float | None = None
    """The least fraction of the image that a target covers, [0, 1]."""
    max_area: float | None = None
    max_per_class: int | None = None
    """At most so many samples of a class, the first ones by key."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("min_consistency", "min_score", "min_area", "max_area", "clip_quantile"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} must be from 0 to 1, got {value}")
        if self.area_quantiles is not None:
            low, high = self.area_quantiles
            if not 0 <= low < high <= 1:
                raise ConfigError(
                    f"--area-quantiles must be two numbers from 0 to 1, the lower one first, got "
                    f"{low} and {high}"
                )
        if self.max_per_class is not None and self.max_per_class < 1:
            raise ConfigError(f"--max-per-class must be at least 1, got {self.max_per_class}")

    def resolved(self, classes: ClassSet) -> SelectionSettings:
        """The same with its classes under the names of a set, in the order of their ids.

        Raises:
            ConfigError: the set has no such class.
        """
        found = {c.id: c.name for c in map(classes.by_name, self.classes)}
        return replace(self, classes=tuple(found[index] for index in sorted(found)))

    def to_json(self) -> dict[str, Any]:
        """As plain values; what came later only where it is asked for, so that requests stay."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.min_consistency is None:
            del values["min_consistency"]
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassQuantiles:
    """The limits of one class, over all its samples before any filter; None: not asked for."""

    class_id: int
    samples: int
    area_low: float | None
    area_high: float | None
    clip: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdicts:
    """What became of each of the N candidates."""

    reasons: tuple[str, ...]
    """A key of `REASONS` for each candidate, "" where it is kept."""
    looked_for: tuple[str, ...]
    """The keys of `REASONS` that a candidate could be left out for, in their order."""
    quantiles: tuple[ClassQuantiles, ...]
    """By ascending class id."""

    @property
    def kept(self) -> Bool[np.ndarray, " N"]:
        """Which candidates are kept."""
        return np.array([not reason for reason in self.reasons], dtype=np.bool_)


def judge(
    candidates: Candidates,
    settings: SelectionSettings,
    clip_scores: Float64[np.ndarray, " M"] | None = None,
    consistency: Float64[np.ndarray, " M"] | None = None,
) -> Verdicts:
    """The verdict on every candidate.

    Quantiles are taken for each class over all candidates, unsafe and uniform ones included, and
    the inequalities are strict (methods 7.4); they are linear between order statistics. A class of
    one or two samples has none strictly between two of its quantiles.

    Args:
        candidates: the samples.
        settings: what to keep.
        clip_scores: for each target, [0, 1]; None: no sample is left out for it.
        consistency: for each target, [0, 1], where the settings ask for it.
    """
    c = candidates
    limits = _quantiles(c, settings, clip_scores)
    by_class = {q.class_id: q for q in limits}
    reason_of: dict[str, Bool[np.ndarray, " N"]] = {}

    def of_targets(name: str, bad: Bool[np.ndarray, " M"]) -> None:
        reason_of[name] = np.bincount(c.sample[bad], minlength=len(c.keys)) > 0

    if settings.drop_unsafe:
        reason_of["unsafe"] = c.unsafe
    if settings.drop_uniform:
        reason_of["uniform"] = c.uniform
    if settings.area_quantiles is not None:
        low = np.array([by_class[i].area_low for i in c.class_ids.tolist()], dtype=np.float64)
        high = np.array([by_class[i].area_high for i in c.class_ids.tolist()], dtype=np.float64)
        of_targets("area_low_quantile", c.areas <= low)
        of_targets("area_high_quantile", c.areas >= high)
    if clip_scores is not None:
        least = np.array([by_class[i].clip for i in c.class_ids.tolist()], dtype=np.float64)
        of_targets("clip_quantile", clip_scores <= least)
    if settings.min_consistency is not None:
        assert consistency is not None, "who asks for consistency has measured it"
        of_targets("min_consistency", consistency < settings.min_consistency)
    if settings.classes:
        wanted = [c.classes.by_name(name).id for name in settings.classes]
        of_targets("class", ~np.isin(c.class_ids, wanted))
    if settings.min_score is not None:
        of_targets("min_score", c.scores < settings.min_score)
    if settings.min_area is not None:
        of_targets("min_area", c.areas < settings.min_area)
    if settings.max_area is not None:
        of_targets("max_area", c.areas > settings.max_area)

    looked_for = [name for name in REASONS if name in reason_of]
    reasons = np.full(len(c.keys), "", dtype=object)
    for name in reversed(looked_for):
        reasons[reason_of[name]] = name
    if settings.max_per_class is not None:
        looked_for.append("max_per_class")
        reasons[_beyond(c, reasons == "", settings.max_per_class)] = "max_per_class"
    return Verdicts(reasons=tuple(reasons.tolist()), looked_for=tuple(looked_for), quantiles=limits)


def _quantiles(
    c: Candidates, settings: SelectionSettings, clip_scores: Float64[np.ndarray, " M"] | None
) -> tuple[ClassQuantiles, ...]:
    found = []
    for class_id in np.unique(c.class_ids).tolist():
        chosen = c.class_ids == class_id
        low = high = clip = None
        if settings.area_quantiles is not None:
            low, high = (float(q) for q in np.quantile(c.areas[chosen], settings.area_quantiles))
        if clip_scores is not None:
            clip = float(np.quantile(clip_scores[chosen], settings.clip_quantile))
        found.append(
            ClassQuantiles(
                class_id=class_id,
                samples=int(np.count_nonzero(chosen)),
                area_low=low,
                area_high=high,
                clip=clip,
            )
        )
    return tuple(found)


def _beyond(c: Candidates, kept: Bool[np.ndarray, " N"], limit: int) -> Int64[np.ndarray, " L"]:
    """Indices of the kept samples of which some class has ``limit`` samples already."""
    taken: dict[int, int] = {}
    full = []
    starts = np.searchsorted(c.sample, np.arange(len(c.keys) + 1))
    for index in np.flatnonzero(kept).tolist():
        class_ids = c.class_ids[starts[index] : starts[index + 1]].tolist()
        if any(taken.get(class_id, 0) >= limit for class_id in class_ids):
            full.append(index)
            continue
        for class_id in class_ids:
            taken[class_id] = taken.get(class_id, 0) + 1
    return np.array(full, dtype=np.int64)
