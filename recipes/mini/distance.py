"""How far drawings are from composites of their class, in the features of the annotator.

Like the Fréchet distance of Inception features, but of a network that knows these pictures, and
without its bias where there are few of them: the squared maximum mean discrepancy with a cubic
kernel (Binkowski et al. 2018, arXiv 1801.01401, section 4). It is zero in the mean for pictures of
one kind, and can come out below.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import SampleFolder
from recipes.mini.catalogue import CLASSES
from recipes.mini.composites import Composer

Features = Float[np.ndarray, "n width"]


class FeatureReader(Protocol):
    """What is asked of the annotator."""

    def features(self, images: UInt8[np.ndarray, "B H W 3"]) -> Float[np.ndarray, "B width"]:
        """A vector a picture."""


def distances(
    folder: SampleFolder, annotator: FeatureReader, composer: Composer, per_class: int
) -> dict[str, Any]:
    """The distance of each class's drawings from composites, beside that of other composites.

    The second is what the distance comes to by chance, for as many pictures as there are drawings.

    Args:
        folder: drawings, each of the class that was asked for.
        annotator: trained on composites.
        composer: of the composites to compare with; their scenes are reduced to one object.
        per_class: composites of each class.

    Raises:
        ConfigError: a class has a single drawing, or a drawing is missing or damaged.
    """
    composer = replace(composer, two_object_share=0.0, three_object_share=0.0)
    by_class: dict[str, dict[str, float | int]] = {}
    for class_id, entry in enumerate(CLASSES, start=1):
        drawings = [folder.image(s) for s in folder.samples if s.class_name == entry.voc.name]
        if not drawings:
            continue
        if len(drawings) < 2:
            raise ConfigError(f"a distance needs two drawings of a class, {entry.voc.name} has one")
        count = per_class + len(drawings)
        composites = [composer.compose(i, class_id=class_id).image for i in range(count)]
        drawn, made = (annotator.features(np.stack(each)) for each in (drawings, composites))
        # On the scale of the composites, whatever the network's own is.
        scale = made.std(axis=0).mean() + 1e-12
        drawn, made = drawn / scale, made / scale
        by_class[entry.voc.name] = {
            "drawings": round(squared_discrepancy(drawn, made[:per_class]), 5),
            "composites": round(squared_discrepancy(made[per_class:], made[:per_class]), 5),
            "count": len(drawings),
        }
    means = {
        kind: round(float(np.mean([found[kind] for found in by_class.values()])), 5)
        for kind in ("drawings", "composites")
    }
    return {"mean": means, "by_class": by_class}


def squared_discrepancy(some: Features, others: Features) -> float:
    """The unbiased estimate of the squared discrepancy of two sets of at least two vectors."""

    def kernel(left: Features, right: Features) -> Float[np.ndarray, "n m"]:
        return (left @ right.T / left.shape[1] + 1) ** 3

    def within(each: Features) -> float:
        found = kernel(each, each)
        return float((found.sum() - np.trace(found)) / (len(each) * (len(each) - 1)))

    some, others = some.astype(np.float64), others.astype(np.float64)
    return within(some) + within(others) - 2 * float(kernel(some, others).mean())
