"""Would a stranger name the object? Generated pictures, shown to a network that saw composites.

The annotator labels every pixel; a picture is named right where most of its foreground pixels are
of the class that was asked for. It also paints the masks of pictures that it names right, which is
how the embedded tokens' training pictures were annotated before people looked at them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from matplotlib.figure import Figure

from ovamgen.classes.loading import built_in
from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import Sample, SampleFolder, save_mask
from ovamgen.segmentor.network import Segmentor

VOC = built_in("voc")

PASS_SHARE = 0.6
PASS_CLASS_SHARE = 0.4
PASS_CLASSES = 15
"""The bar: that share of all pictures, and that many classes above that share of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How the annotator names generated pictures."""

    named: Int64[np.ndarray, "20 21"]
    """Pictures by class asked for (VOC order) and majority class found, column 0 for none."""

    @property
    def class_shares(self) -> dict[str, float]:
        """Share of each class's pictures that are named right, of classes with pictures."""
        totals = self.named.sum(axis=1)
        return {
            voc.name: float(self.named[voc.id - 1, voc.id] / totals[voc.id - 1])
            for voc in VOC.classes
            if totals[voc.id - 1]
        }

    @property
    def share(self) -> float:
        """Share of all pictures that are named right."""
        return float(np.trace(self.named[:, 1:]) / self.named.sum())

    def to_json(self) -> dict[str, Any]:
        """All figures, with the bar."""
        shares = self.class_shares
        above = sum(share > PASS_CLASS_SHARE for share in shares.values())
        return {
            "pictures": int(self.named.sum()),
            "named_right": round(self.share, 4),
            "classes_above_0.4": above,
            "passed": self.share >= PASS_SHARE and above >= PASS_CLASSES,
            "by_class": {name: round(share, 3) for name, share in shares.items()},
            "taken_for": {
                VOC.classes[row].name: {
                    "nothing" if column == 0 else VOC.classes[column - 1].name: int(count)
                    for column, count in enumerate(counts)
                    if count and column != row + 1
                }
                for row, counts in enumerate(self.named)
                if counts.sum()
            },
        }


def majority_class(labels: UInt8[np.ndarray, "H W"]) -> int:
    """The class of most foreground pixels, the lowest id on ties; 0 for no foreground."""
    counts = np.bincount(labels.ravel(), minlength=len(VOC.classes) + 1)[1 : len(VOC.classes) + 1]
    return int(counts.argmax()) + 1 if counts.any() else 0


def judge(folder: SampleFolder, annotator: Segmentor, annotations: Path | None = None) -> Quality:
    """How the annotator names the pictures of a folder.

    Args:
        folder: generated pictures.
        annotator: trained on composites.
        annotations: where masks of pictures that were named right are written, ``KEY.png``.

    Raises:
        ConfigError: a picture is missing or damaged.
    """
    named = np.zeros((len(VOC.classes), len(VOC.classes) + 1), np.int64)
    for sample in folder.samples:
        (labels,) = annotator.predict(folder.image(sample)[None], mirror=True)
        wanted, found = VOC.by_name(sample.class_name).id, majority_class(labels)
        named[wanted - 1, found] += 1
        if annotations is not None and wanted == found:
            save_mask(labels == wanted, annotations / f"{sample.key}.png")
    return Quality(named=named)


def draw_grid(folder: SampleFolder, path: Path, per_class: int = 4) -> None:
    """A picture of the first samples of each class, a block of two columns a class.

    Raises:
        ConfigError: a class has fewer samples.
    """
    by_class: dict[str, list[Sample]] = {voc.name: [] for voc in VOC.classes}
    for sample in folder.samples:
        by_class[sample.class_name].append(sample)
    if short := [name for name, samples in by_class.items() if len(samples) < per_class]:
        raise ConfigError(f"the grid needs {per_class} samples of each class, too few: {short}")
    figure = Figure(figsize=(12, 10.6), dpi=110, layout="constrained")
    for axes, voc in zip(figure.subplots(4, 5).flat, VOC.classes, strict=True):
        images = [folder.image(sample) for sample in by_class[voc.name][:per_class]]
        axes.imshow(_block(images))
        axes.set_title(voc.phrase, fontsize=12)
        axes.set_axis_off()
    figure.savefig(path, metadata={"Software": None})


def _block(images: list[UInt8[np.ndarray, "H W 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    """Images in two columns, with a gap of white."""
    height, width = images[0].shape[:2]
    gap = max(2, width // 32)
    rows = -(-len(images) // 2)
    block = np.full((rows * (height + gap) - gap, 2 * width + gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // 2 * (height + gap), index % 2 * (width + gap)
        block[top : top + height, left : left + width] = image
    return block
