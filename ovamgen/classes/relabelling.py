"""Labels of one class set as those of another whose classes it can tell apart."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from ovamgen.classes.class_entry import BACKGROUND, IGNORE, ClassEntry
from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import ConfigError


def relabelling(there: ClassSet, wanted: ClassSet) -> UInt8[np.ndarray, " 256"]:
    """By label of a set, the label in another: pictures of VOC's twenty score a network of pets.

    A class is what its name, phrase or COCO's name names there; one with several phrases is all
    that they name. Classes that nobody asks for become background.

    Args:
        there: the classes of the label maps.
        wanted: the classes that are asked for.

    Returns:
        For each of 256 labels another; 255 stays 255.

    Raises:
        ConfigError: a class that is asked for is none there, or two are the same there.
    """
    table = np.full(256, BACKGROUND, np.uint8)
    table[IGNORE] = IGNORE
    known = {name.lower(): entry for entry in there.classes for name in entry.names}
    for entry in wanted.classes:
        for name in entry.phrases or (entry.name, entry.phrase, *entry.coco):
            found = known.get(name.lower())
            if found is not None and table[found.id] not in (BACKGROUND, entry.id):
                other = wanted.by_id(int(table[found.id]))
                raise ConfigError(
                    f"{found.name} of {there.name} is both {other.name} and {entry.name} of "
                    f"{wanted.name}: the labels cannot tell them apart"
                )
            if found is not None:
                table[found.id] = entry.id
            elif entry.phrases:
                raise _absent(entry, name, there, wanted)
        if entry.id not in table:
            raise _absent(entry, entry.phrase, there, wanted)
    return table


def _absent(entry: ClassEntry, name: str, there: ClassSet, wanted: ClassSet) -> ConfigError:
    of = f" of {entry.name}" * (name != entry.phrase)
    return ConfigError(
        f"the labels are of the classes {there.name}, and '{name}'{of} of {wanted.name} is none "
        "of them: give pictures whose masks have all classes"
    )
