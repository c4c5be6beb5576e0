"""What the words of a class set find in captions, and how that agrees with what images show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ovamgen.classes.class_entry import ClassEntry
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.class_words import Contest, contests
from ovamgen.plan.captions import Caption, InstanceFile

EXAMPLES = 3
"""Captions that are kept of each class."""


@dataclass(slots=True, kw_only=True)
class Agreement:
    """Captions and images of a class, where instances say what an image shows."""

    right: int = 0
    """Captions that name the class, of images that show it."""
    wrong: int = 0
    """Captions that name the class, of images that do not show it."""
    silent: int = 0
    """Captions that do not name the class, of images that show it."""
    images: int = 0
    """Images that show the class and have captions."""
    images_named: int = 0
    """Those of them that at least one caption names it for."""

    @property
    def precision(self) -> float | None:
        """Share of the captions naming the class whose image shows it; None where none names it."""
        return _share(self.right, self.right + self.wrong)

    @property
    def recall(self) -> float | None:
        """Share of the captions of images showing the class that name it; None without any."""
        return _share(self.right, self.right + self.silent)

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return {
            "right": self.right,
            "wrong": self.wrong,
            "silent": self.silent,
            "precision": self.precision,
            "recall": self.recall,
            "images": self.images,
            "images_named": self.images_named,
        }


@dataclass(slots=True, kw_only=True)
class FoundWords:
    """What the words of one class find."""

    entry: ClassEntry
    captions: int = 0
    """Captions that name it."""
    words: Counter[str] = field(default_factory=Counter)
    """Mentions by what stands in the caption, in lower case."""
    examples: list[str] = field(default_factory=list)
    """The first captions that name it."""
    agreement: Agreement | None = None
    """Where instances were given."""

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        found = {
            "id": self.entry.id,
            "name": self.entry.name,
            "captions": self.captions,
            "words": dict(sorted(self.words.items(), key=lambda item: (-item[1], item[0]))),
            "examples": self.examples,
        }
        return found | ({"agreement": self.agreement.to_json()} if self.agreement else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionWords:
    """What a class set finds in captions."""

    classes: tuple[FoundWords, ...]
    """One for each class, in the order of their ids."""
    contests: tuple[Contest, ...]
    """Plurals of one class that are written as another's."""
    captions: int
    without_class: int
    """Captions that name none."""

    @property
    def agreement(self) -> Agreement:
        """The counts of all classes together."""
        total = Agreement()
        for one in (found.agreement or Agreement() for found in self.classes):
            total.right += one.right
            total.wrong += one.wrong
            total.silent += one.silent
            total.images += one.images
            total.images_named += one.images_named
        return total

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "captions": self.captions,
            "without_class": self.without_class,
            "classes": [found.to_json() for found in self.classes],
            "contests": [
                {"phrase": c.phrase, "names": c.taken_by.name, "plural_of": c.plural_of.name}
                for c in self.contests
            ],
        }


def find_words(
    classes: ClassSet, captions: Iterable[Caption], instances: InstanceFile | None = None
) -> CaptionWords:
    """What each class finds in the captions.

    Args:
        classes: whose words are looked for.
        captions: of any source.
        instances: of the same images, read for the same classes. Then captions are judged as well:
            those of the images that the file lists.
    """
    found = {entry.id: FoundWords(entry=entry) for entry in classes.classes}
    shown: defaultdict[int, set[int]] = defaultdict(set)
    if instances is not None:
        for instance in instances.instances:
            shown[instance.image_id].add(instance.class_id)
        for words in found.values():
            words.agreement = Agreement()
    named_for: defaultdict[int, set[int]] = defaultdict(set)
    count = without = 0
    for caption in captions:
        mentions = classes.find(caption.text)
        named = {mention.entry.id for mention in mentions}
        count += 1
        without += not named
        for mention in mentions:
            word = caption.text[mention.start : mention.end].lower()
            found[mention.entry.id].words[word] += 1
        for class_id in named:
            words = found[class_id]
            words.captions += 1
            if len(words.examples) < EXAMPLES:
                words.examples.append(caption.text)
        if instances is not None and caption.image_id in instances.image_ids:
            named_for[caption.image_id] |= named
            _judge(found, named, shown[caption.image_id])
    for image_id, named in named_for.items():
        for class_id in shown[image_id]:
            if (agreement := found[class_id].agreement) is not None:
                agreement.images += 1
                agreement.images_named += class_id in named
    return CaptionWords(
        classes=tuple(found.values()),
        contests=tuple(contests(classes.classes)),
        captions=count,
        without_class=without,
    )


def _judge(found: dict[int, FoundWords], named: set[int], shown: set[int]) -> None:
    for class_id in named | shown:
        if (agreement := found[class_id].agreement) is not None:
            agreement.right += class_id in named and class_id in shown
            agreement.wrong += class_id not in shown
            agreement.silent += class_id not in named


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
