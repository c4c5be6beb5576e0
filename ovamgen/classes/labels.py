"""What the classes of a set are to others: targets of samples, colours and values of labels.

Apart from the set itself, which configurations hold and help pages show before numpy is loaded.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from ovamgen.classes.class_entry import BACKGROUND, IGNORE, ClassEntry
from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import OvamgenError
from ovamgen.records import Target


def target_of(entry: ClassEntry) -> Target:
    """The class as a sample's target."""
    return Target(class_id=entry.id, class_name=entry.name, phrase=entry.phrase)


def palette_of(classes: ClassSet) -> UInt8[np.ndarray, "256 3"]:
    """RGB of each label: the classes' own colours, else VOC's.

    VOC deals the id's bits to R, G, B, high bits first. Entry 0 is black, 255 (224, 224, 192).
    """
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            source = 3 * bit + channel
            palette[:, channel] |= (((labels >> source) & 1) << (7 - bit)).astype(np.uint8)
    for entry in classes.classes:
        if entry.colour:
            palette[entry.id] = tuple(bytes.fromhex(entry.colour[1:]))
    return palette


def check_labels(
    labels: UInt8[np.ndarray, "H W"], classes: ClassSet, name: str, kind: type[OvamgenError]
) -> None:
    """Refuses label maps with values that are no class of the set, nor 0 or 255.

    Raises:
        OvamgenError: of the kind asked for; the most frequent such value is named.
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    counts[[BACKGROUND, IGNORE, *(entry.id for entry in classes.classes)]] = 0
    if counts.any():
        value = int(counts.argmax())
        raise kind(
            f"{name} must have values {classes.told_labels} and {IGNORE} (ignored), got {value} in "
            f"{counts[value]} pixels: map other classes to these, or to {IGNORE}"
        )
