"""The sentences under the composites, and every word that they can hold.

Knows words only.
"""

from __future__ import annotations

import numpy as np

from recipes.mini.backgrounds import WORDS as BACKGROUND_WORDS
from recipes.mini.catalogue import CLASSES, ClassEntry

OPENINGS = ("a photograph of", "a photo of", "a picture of", "an image of", "")
_OPENING_SHARES = (0.66, 0.12, 0.08, 0.04, 0.10)
JOINTS = ("and", "next to", "with")
_FILLER_WORDS = """
beautiful big black blue bright brown clean colorful couple cute dark empty few flying four
front gray green group happy her his holding huge it its large little long looking lying many
modern near new nice old one orange parked playing pretty purple red resting riding running
several short sitting small some standing tall this three tiny two very walking white wooden
yellow young
"""
FILLERS = tuple(_FILLER_WORDS.split())
"""Words of real captions that the pictures do not show: the model learns to pass over them."""

_OTHER_NAME_SHARE = 0.12
_FILLER_SHARE = 0.06
_BACKGROUND_NAMED_SHARE = 0.8


def write_caption(rng: np.random.Generator, class_ids: tuple[int, ...], background: str) -> str:
    """A caption that names each class, and mostly the background.

    Args:
        rng: decides the wording and the order of the classes.
        class_ids: one to three VOC ids, 1 to 20.
        background: a key of ``backgrounds.WORDS``.
    """
    order = list(class_ids)
    if len(order) > 2:
        rng.shuffle(order)
    elif rng.random() < 0.5:
        order.reverse()
    names = [_noun(rng, CLASSES[class_id - 1]) for class_id in order]
    parts = [str(rng.choice(OPENINGS, p=_OPENING_SHARES)), names[0]]
    for name in names[1:]:
        parts += [str(rng.choice(JOINTS)), name]
    if rng.random() < _BACKGROUND_NAMED_SHARE:
        parts.append(BACKGROUND_WORDS[background])
    return " ".join(part for part in parts if part)


def names_of(entry: ClassEntry) -> tuple[str, ...]:
    """All names of a class: its phrase first, then its VOC name and the others."""
    return tuple(dict.fromkeys((entry.voc.phrase, entry.voc.name, *entry.other_names)))


def head_word(name: str) -> str:
    """The word of a name that carries its meaning, the last: ``table`` of ``dining table``."""
    return name.split()[-1]


def vocabulary() -> tuple[str, ...]:
    """Every word that captions can hold, sorted."""
    sentences = [*OPENINGS, *JOINTS, *FILLERS, *BACKGROUND_WORDS.values(), "a", "an"]
    sentences += [name for entry in CLASSES for name in names_of(entry)]
    return tuple(sorted({word for sentence in sentences for word in sentence.split()}))


def _noun(rng: np.random.Generator, entry: ClassEntry) -> str:
    name, *others = names_of(entry)
    if others and rng.random() < _OTHER_NAME_SHARE:
        name = str(rng.choice(others))
    if rng.random() < _FILLER_SHARE:
        name = f"{rng.choice(FILLERS)} {name}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
