"""Recorded maps to pixel counts: masks at thresholds, with the dense CRF and without.

Each class of a picture is binarised by itself, as the paper's protocol has it (methods 7.3): two
classes do not compete for a pixel here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from ovamgen.classes.class_set import ClassSet
from ovamgen.config import MaskConfig
from ovamgen.evaluate.recording import MapSource
from ovamgen.evaluate.scoring import Counts, best_tau
from ovamgen.evaluate.scoring import miou_over_tau as mean_over_tau
from ovamgen.evaluate.setups import Setup
from ovamgen.masks.binarise import class_scores, make_label_map
from ovamgen.masks.iou import TAUS, count_pixels, sweep_pixels
from ovamgen.pictures.picture_set import Picture, PictureSet


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A class of a picture that has no score, and why."""

    key: str
    class_name: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Judged:
    """The pixel counts of one setup on a set of pictures."""

    setup: Setup
    tau: float
    plain: Counts
    """Counts of the masks ``scores > tau``."""
    refined: Counts | None
    """Counts of the same masks after the dense CRF; None where it was not asked for."""
    intersections: Int64[np.ndarray, "R T"]
    """At each of `TAUS`, without CRF."""
    unions: Int64[np.ndarray, "R T"]
    refined_sweep: tuple[Int64[np.ndarray, "R T"], Int64[np.ndarray, "R T"]] | None
    """The same with it."""
    differences: dict[str, float]
    """Between each picture and what was drawn, in levels of 0 to 255."""
    left_out: tuple[LeftOut, ...]

    @property
    def final(self) -> Counts:
        """Counts of the masks as the settings make them."""
        return self.plain if self.refined is None else self.refined

    def mious(self) -> np.ndarray:
        """Foreground mIoU at each of `TAUS`, without CRF."""
        return mean_over_tau(self.plain, self.intersections, self.unions)

    def best_tau(self) -> float:
        """The threshold of `TAUS` with the largest mIoU: for choosing, never for reporting on."""
        return best_tau(self.mious(), TAUS, self.tau)


def judge(
    pictures: PictureSet,
    setup: Setup,
    recordings: MapSource,
    *,
    tau: float | None = None,
    crf: bool | None = None,
    crf_sweep: bool = False,
    only: Collection[str] | None = None,
) -> Judged:
    """The counts of a setup on all pictures, or on some.

    Args:
        pictures: with their truth.
        setup: with the settings of its masks.
        recordings: of these pictures by this setup.
        tau: another threshold than the setup's.
        crf: whether to refine; as the setup says where None.
        crf_sweep: refine at all of `TAUS` too, which takes 20 times as long.
        only: keys of the pictures to score.
    """
    threshold = setup.tau if tau is None else tau
    refine = setup.config.masks.crf.enabled if crf is None else crf
    masks = setup.config.masks
    rows: list[tuple[str, int, bool]] = []
    plain, refined, swept, refined_swept = [], [], [], []
    differences, left_out = {}, []
    for picture in pictures.pictures:
        if only is not None and picture.key not in only:
            continue
        recorded = recordings.maps(setup, picture)
        image, truth = pictures.image(picture), pictures.truth(picture)
        differences[picture.key] = recorded.difference
        for place, target in enumerate(picture.targets):
            if place in recorded.problems:
                reason = recorded.problems[place]
                left_out.append(
                    LeftOut(key=picture.key, class_name=target.entry.name, reason=reason)
                )
                continue
            maps = recorded.maps[place : place + 1]
            class_id = target.entry.id
            scores = class_scores(maps, picture.height, picture.width, masks)[0]
            rows.append((picture.key, class_id, target.word_included))
            plain.append(count_pixels(scores > np.float32(threshold), truth, class_id))
            swept.append(sweep_pixels(scores, truth, class_id))
            if refine:
                mask = refined_mask(maps, class_id, image, masks, threshold)
                refined.append(count_pixels(mask, truth, class_id))
            if crf_sweep:
                by_tau = [
                    count_pixels(refined_mask(maps, class_id, image, masks, step), truth, class_id)
                    for step in TAUS
                ]
                refined_swept.append(np.array(by_tau, np.int64).T)
    sweep = np.array(swept, np.int64).reshape(-1, 2, len(TAUS))
    crf_steps = np.array(refined_swept, np.int64).reshape(-1, 2, len(TAUS))
    return Judged(
        setup=setup,
        tau=threshold,
        plain=_counts(pictures.classes, rows, plain),
        refined=_counts(pictures.classes, rows, refined) if refine else None,
        intersections=sweep[:, 0],
        unions=sweep[:, 1],
        refined_sweep=(crf_steps[:, 0], crf_steps[:, 1]) if crf_sweep else None,
        differences=differences,
        left_out=tuple(left_out),
    )


def refined_mask(
    maps: Float32[np.ndarray, "1 h w"],
    class_id: int,
    image: UInt8[np.ndarray, "H W 3"],
    masks: MaskConfig,
    tau: float,
    *,
    crf: bool = True,
) -> Bool[np.ndarray, "H W"]:
    """The mask of one class, alone on its picture, as a run would make it at a threshold.

    Args:
        maps: of the class.
        class_id: its id.
        image: RGB.
        masks: resolved settings.
        tau: the threshold, which stands for their ``tau`` and ``beta``.
        crf: with the dense CRF.
    """
    settings = masks.model_copy(
        update={"tau": tau, "beta": None, "crf": masks.crf.model_copy(update={"enabled": crf})}
    )
    return make_label_map(maps, [class_id], image, settings).labels == class_id


def picture_mask(
    pictures: PictureSet, setup: Setup, recordings: MapSource, picture: Picture, tau: float
) -> tuple[Float32[np.ndarray, "H W"], Bool[np.ndarray, "H W"]] | None:
    """Scores and final mask of a picture's first class, for a figure; None where it has no map."""
    recorded = recordings.maps(setup, picture)
    if 0 in recorded.problems:
        return None
    maps, masks = recorded.maps[:1], setup.config.masks
    image = pictures.image(picture)
    scores = class_scores(maps, picture.height, picture.width, masks)[0]
    class_id = picture.targets[0].entry.id
    return scores, refined_mask(maps, class_id, image, masks, tau, crf=masks.crf.enabled)


def _counts(
    classes: ClassSet, rows: list[tuple[str, int, bool]], pixels: list[tuple[int, int]]
) -> Counts:
    numbers = np.array(pixels, np.int64).reshape(-1, 2)
    return Counts(
        classes=classes,
        keys=tuple(row[0] for row in rows),
        class_ids=np.array([row[1] for row in rows], np.int64),
        included=np.array([row[2] for row in rows], bool),
        intersections=numbers[:, 0],
        unions=numbers[:, 1],
    )
