"""The 20 classes of PASCAL VOC, which most tests are about."""

from __future__ import annotations

from ovamgen.classes.class_entry import BACKGROUND, IGNORE, ClassEntry
from ovamgen.classes.class_set import Mention
from ovamgen.classes.labels import palette_of
from ovamgen.classes.loading import built_in

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "NUM_CLASSES",
    "VOC_CLASSES",
    "Mention",
    "VocClass",
    "class_by_id",
    "class_by_name",
    "find_classes",
    "voc_palette",
]

_VOC = built_in("voc")

VocClass = ClassEntry
VOC_CLASSES = _VOC.classes
"""The classes in the order of their ids."""
NUM_CLASSES = _VOC.labels
"""Labels of a mask: the classes and the background."""
class_by_id = _VOC.by_id
class_by_name = _VOC.by_name
find_classes = _VOC.find


def voc_palette():
    """RGB of each label."""
    return palette_of(_VOC)
