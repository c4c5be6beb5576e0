"""One confusion matrix over a whole data set, and the scores that VOC reads off it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.errors import OvamgenError
from ovamgen.masks.iou import iou


class ConfusionMatrix:
    """Counts of pixels by true class (rows) and predicted class (columns).

    The protocol is that of Everingham et al., "The PASCAL Visual Object Classes Challenge: A
    Retrospective", 2015: pixels of truth 255 are left out, all others of all pictures are pooled.
    """

    def __init__(self, labels: int) -> None:
        """No pixel is counted yet; labels are 0 to ``labels`` - 1, of which some may be unused."""
        self.counts: Int64[np.ndarray, "C C"] = np.zeros((labels, labels), np.int64)

    def add(
        self, truth: UInt8[np.ndarray, "*shape"], predicted: UInt8[np.ndarray, "*shape"]
    ) -> None:
        """Counts the pixels of one picture, or of several.

        Raises:
            OvamgenError: a label that is no class; 255 is one only in the truth.
        """
        classes = len(self.counts)
        counted = truth != IGNORE
        rows, columns = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
        highest = max(rows.max(initial=0), columns.max(initial=0))
        if highest >= classes:
            raise OvamgenError(
                f"labels must be 0 to {classes - 1}, got {highest}: the prediction is of other "
                "classes than the truth"
            )
        pairs = np.bincount(rows * classes + columns, minlength=classes * classes)
        self.counts += pairs.reshape(classes, classes)

    def scores(self) -> Scores:
        """What the counts amount to.

        Raises:
            OvamgenError: no pixel was counted.
        """
        total = int(self.counts.sum())
        if not total:
            raise OvamgenError(
                f"a score needs at least one pixel that counts, all are {IGNORE} (ignored)"
            )
        hits = np.diagonal(self.counts)
        truth, predicted = self.counts.sum(axis=1), self.counts.sum(axis=0)
        union = truth + predicted - hits
        return Scores(
            iou=iou(hits, union),
            truth_pixels=truth,
            predicted_pixels=predicted,
            pixel_accuracy=float(hits.sum() / total),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of a data set; shares in [0, 1]."""

    iou: Float64[np.ndarray, " C"]
    """Intersection over union of each class; NaN where it is neither true nor predicted."""
    truth_pixels: Int64[np.ndarray, " C"]
    predicted_pixels: Int64[np.ndarray, " C"]
    pixel_accuracy: float

    @property
    def miou_with_background(self) -> float:
        """Mean over all classes and the background that occur: VOC's own figure."""
        return float(np.nanmean(self.iou))

    @property
    def miou_foreground(self) -> float:
        """Mean over the classes without the background; NaN where no class occurs."""
        classes = self.iou[BACKGROUND + 1 :]
        return float(np.nanmean(classes)) if np.isfinite(classes).any() else float("nan")

    @property
    def absent(self) -> list[int]:
        """Labels that are neither true nor predicted anywhere: left out of the means."""
        return np.flatnonzero(np.isnan(self.iou)).tolist()

    @property
    def only_predicted(self) -> list[int]:
        """Classes that are predicted but never true: VOC counts them as 0."""
        return np.flatnonzero((self.truth_pixels == 0) & (self.predicted_pixels > 0)).tolist()
