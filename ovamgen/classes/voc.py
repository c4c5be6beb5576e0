"""The 20 classes of PASCAL VOC: ids, names, the words of a caption that name them, and the palette.

It knows what a word means, not where a caption comes from. Ids follow VOC (train 19, tvmonitor 20).
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import UInt8

from ovamgen.classes.voc_words import (
    COMPOUNDS,
    COMPOUNDS_WITHOUT_PLURAL,
    FORMS,
    IMITATIONS_AFTER,
    IMITATIONS_BEFORE,
    NOUNS,
)
from ovamgen.errors import ConfigError
from ovamgen.records import Target

BACKGROUND = 0
"""The label of pixels that show none of the classes."""
IGNORE = 255
"""The label of pixels that are neither trained on nor scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VocClass:
    """One class of VOC under each of its names."""

    id: int
    """1..20."""
    name: str
    """VOC's own, one word: ``diningtable``."""
    phrase: str
    """As the OVAM authors write it in prompts (methods 0.5): ``dining table``, ``tv``."""
    coco_name: str
    """COCO's name of the category: ``couch`` for sofa."""

    @property
    def hyphenated(self) -> str:
        """The key of the class in the authors' token file: ``dining-table``, ``tv``."""
        return self.phrase.replace(" ", "-")

    @property
    def with_article(self) -> str:
        """The phrase as a sentence has it: ``an aeroplane``, ``a dining table``."""
        return f"{'an' if self.phrase[0] in 'aeiou' else 'a'} {self.phrase}"

    def target(self) -> Target:
        """The class as a sample's target."""
        return Target(class_id=self.id, class_name=self.name, phrase=self.phrase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A place where a text names a class."""

    voc_class: VocClass
    start: int
    """First character."""
    end: int
    """Character after the last."""


VOC_CLASSES: tuple[VocClass, ...] = tuple(
    VocClass(id=index, name=name, phrase=phrase or name, coco_name=coco_name or phrase or name)
    for index, (name, phrase, coco_name) in enumerate(
        [
            ("aeroplane", "", "airplane"),
            ("bicycle", "", ""),
            ("bird", "", ""),
            ("boat", "", ""),
            ("bottle", "", ""),
            ("bus", "", ""),
            ("car", "", ""),
            ("cat", "", ""),
            ("chair", "", ""),
            ("cow", "", ""),
            ("diningtable", "dining table", ""),
            ("dog", "", ""),
            ("horse", "", ""),
            ("motorbike", "", "motorcycle"),
            ("person", "", ""),
            ("pottedplant", "potted plant", ""),
            ("sheep", "", ""),
            ("sofa", "", "couch"),
            ("train", "", ""),
            ("tvmonitor", "tv", ""),
        ],
        start=1,
    )
)
NUM_CLASSES = len(VOC_CLASSES) + 1
"""Labels of a mask: the classes and the background."""
"""The classes in the order of their ids."""


def class_by_id(class_id: int) -> VocClass:
    """The class with a VOC id.

    Raises:
        ConfigError: the id is not in 1..20.
    """
    if not 1 <= class_id <= len(VOC_CLASSES):
        raise ConfigError(f"expected a VOC class id from 1 to {len(VOC_CLASSES)}, got {class_id}")
    return VOC_CLASSES[class_id - 1]


def class_by_name(text: str) -> VocClass:
    """The class that a name, phrase, COCO name, hyphenated name or synonym stands for.

    Upper case, plurals, and a hyphen or underscore for a space are understood.

    Raises:
        ConfigError: no class has that name; the nearest name is given.
    """
    wanted = tuple(_WORD.findall(text.lower().replace("_", " ")))
    if wanted and (found := _NAMED.get(wanted)):
        return found
    raise ConfigError(f"unknown class {text!r:.60}: {_hint(' '.join(wanted))}")


def voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """RGB of each label as VOC colours it: the id's bits dealt to R, G, B, high bits first.

    Entry 0 is black, entry 255 (224, 224, 192).
    """
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            source = 3 * bit + channel
            palette[:, channel] |= (((labels >> source) & 1) << (7 - bit)).astype(np.uint8)
    return palette


@functools.lru_cache(maxsize=8)  # what a prompt names is asked more than once, one after the other
def find_classes(text: str) -> tuple[Mention, ...]:
    """Every mention of a class in a text, in the order of the text.

    Whole words in any case, with plurals and synonyms. The longest phrase wins, so that compound
    nouns ("hot dog", "train station") name nothing or something else, and imitations ("toy car",
    "horse statue") name nothing. Linear in the length of the text.
    """
    tokens = [(match.group().lower(), match.start(), match.end()) for match in _WORD.finditer(text)]
    words = ["'" if word == "\u2019" else word for word, _, _ in tokens]
    mentions = []
    position = 0
    while position < len(words):
        length, found = _longest_phrase(words, position)
        after = position + length
        if (
            found is not None
            and not (position and words[position - 1] in IMITATIONS_BEFORE)
            and not (after < len(words) and words[after] in IMITATIONS_AFTER)
        ):
            mentions.append(
                Mention(voc_class=found, start=tokens[position][1], end=tokens[after - 1][2])
            )
        position = after
    return tuple(mentions)


_WORD = re.compile(r"[^\W_]+|[^\w\s-]")
"""A word, or one sign. Spaces, hyphens and underscores only part words, so that "hot-dog" is
"hot dog"; other signs are kept, so that "car, park" is no car park."""


def _plural(phrase: str) -> str:
    """The plural by rule, of the last word."""
    if re.search(r"(s|x|z|ch|sh)$", phrase):
        return phrase + "es"
    if re.search(r"[^aeiou]y$", phrase):
        return phrase[:-1] + "ies"
    if phrase.endswith("man"):
        return phrase[:-2] + "en"
    return phrase + "s"


def _expand(phrases: str) -> list[str]:
    """``"a, b/c d"`` as ``["a", "b d", "c d"]``: commas part phrases, strokes part choices."""
    expanded = []
    for phrase in filter(str.strip, phrases.split(",")):
        choices = [word.split("/") for word in phrase.split()]
        expanded += [" ".join(words) for words in product(*choices)]
    return expanded


def _hint(text: str) -> str:
    """What may have been meant; a synonym only where it is much like the text."""
    names = [name for voc in VOC_CLASSES for name in (voc.name, voc.phrase, voc.coco_name)]
    synonyms = [" ".join(words) for words in _NAMED]
    for known, cutoff in ((names, 0.6), (synonyms, 0.75)):
        if close := difflib.get_close_matches(text, known, n=1, cutoff=cutoff):
            return f"did you mean '{close[0]}'?"
    return "known are " + ", ".join(voc_class.name for voc_class in VOC_CLASSES)


def _named_phrases() -> dict[tuple[str, ...], VocClass]:
    """The class by the words that name it, plurals included."""
    named: dict[tuple[str, ...], VocClass] = {}
    for voc_class in VOC_CLASSES:
        nouns = [voc_class.name, voc_class.phrase, voc_class.coco_name]
        nouns += _expand(NOUNS.get(voc_class.name, ""))
        forms = _expand(FORMS.get(voc_class.name, ""))
        for phrase in [*nouns, *map(_plural, nouns), *forms]:
            other = named.setdefault(tuple(_WORD.findall(phrase)), voc_class)
            assert other is voc_class, f"'{phrase}' names {other.name} and {voc_class.name}"
    return named


def _phrases_by_first_word() -> dict[str, list[tuple[tuple[str, ...], VocClass | None]]]:
    """All phrases, longest first, under their first word; None where they name no class."""
    phrases: dict[tuple[str, ...], VocClass | None] = dict(_NAMED)
    compounds = _expand(COMPOUNDS)
    for compound in [*compounds, *map(_plural, compounds), *_expand(COMPOUNDS_WITHOUT_PLURAL)]:
        named = phrases.setdefault(tuple(_WORD.findall(compound)), None)
        assert named is None, f"'{compound}' is to name no class, but names {named.name}"
    table: dict[str, list[tuple[tuple[str, ...], VocClass | None]]] = {}
    for words in sorted(phrases, key=lambda words: (-len(words), words)):
        table.setdefault(words[0], []).append((words, phrases[words]))
    return table


def _longest_phrase(words: list[str], position: int) -> tuple[int, VocClass | None]:
    """The words that the longest known phrase takes from a position, and its class if any."""
    for phrase, found in _PHRASES.get(words[position], ()):
        if tuple(words[position : position + len(phrase)]) == phrase:
            return len(phrase), found
    return 1, None


_NAMED = _named_phrases()
_PHRASES = _phrases_by_first_word()
