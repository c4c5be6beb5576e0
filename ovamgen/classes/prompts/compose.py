"""Captions made of templates: of every class the same number, no two alike, decided by a seed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ovamgen.classes.class_entry import ClassEntry
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.phrases import words_of
from ovamgen.classes.prompts.templates import MOST_CLASSES, Sentence, Templates
from ovamgen.errors import ConfigError

_TRIES = 100_000
"""Texts of a sentence that are looked at before it is said that there are no more."""
_GOLDEN = 0.618034


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A caption, and the classes that are to be seen in the image."""

    text: str
    targets: tuple[ClassEntry, ...]
    """In the order of the text as it was composed; one to three, each once."""


def compose_prompts(
    classes: ClassSet,
    templates: Templates,
    *,
    per_class: int,
    max_classes: int = MOST_CLASSES,
    seed: int = 0,
) -> list[Prompt]:
    """Prompts in which every class of the set is a target exactly ``per_class`` times.

    The classes are dealt out in rounds, each in an order of its own, and a round is cut into
    prompts of one to ``max_classes`` classes. Of the texts that the templates make for these
    classes one is drawn that no prompt has, in any case, and that names no other class.

    Args:
        classes: all of them become targets.
        templates: sentences and words.
        per_class: prompts of each class, at least 1.
        max_classes: the most classes of a prompt, as far as there are sentences about so many.
        seed: decides everything that is drawn.

    Raises:
        ConfigError: the templates do not make enough different texts for some classes.
    """
    if per_class < 1 or not 1 <= max_classes <= MOST_CLASSES:
        raise ConfigError(
            f"expected at least 1 prompt a class and 1 to {MOST_CLASSES} classes a prompt, got "
            f"{per_class} and {max_classes}"
        )
    draw = _Draw(seed)
    sizes = range(1, max_classes + 1)
    sentences = {size: found for size in sizes if (found := templates.about(size))}
    taken: set[str] = set()
    prompts: list[Prompt] = []
    for _ in range(per_class):
        for entries in _groups(
            draw, classes.classes, [n for n, found in sentences.items() if found]
        ):
            for text in _texts(draw, sentences[len(entries)], entries):
                if text.lower() not in taken and names_exactly(classes, text, entries):
                    break
            else:
                raise ConfigError(
                    f"the templates make too few different prompts about "
                    f"{' and '.join(entry.name for entry in entries)}: "
                    f"{sum(entries[0] in p.targets for p in prompts)} of {per_class} were found. "
                    "Ask for fewer, or give --template a file with more sentences and words"
                )
            taken.add(text.lower())
            prompts.append(Prompt(text=text, targets=tuple(entries)))
    return prompts


def names_exactly(classes: ClassSet, text: str, targets: Sequence[ClassEntry]) -> bool:
    """Whether a text names each of the targets and no other class of the set.

    A class whose own phrase may mean something else in a caption ("orange") is named by that phrase
    all the same.
    """
    found = {mention.entry.id for mention in classes.find(text)}
    missing = [entry for entry in targets if entry.id not in found]
    return len(found) + len(missing) == len(targets) and all(
        not any(map(classes.find, entry.attributed)) and _holds(text, entry) for entry in missing
    )


def _holds(text: str, entry: ClassEntry) -> bool:
    padded = f" {' '.join(words_of(text))} "
    return any(f" {' '.join(words_of(phrase))} " in padded for phrase in entry.attributed)


def _groups(
    draw: _Draw, entries: Sequence[ClassEntry], sizes: Sequence[int]
) -> Iterator[list[ClassEntry]]:
    """All classes in an order that is drawn, in groups of sizes that are drawn."""
    rest = draw.shuffled(entries)
    while rest:
        size = draw.one_of([size for size in sizes if size <= len(rest)])
        yield rest[:size]
        rest = rest[size:]


def _texts(
    draw: _Draw, sentences: Sequence[Sentence], entries: Sequence[ClassEntry]
) -> Iterator[str]:
    """Texts about the classes: of a sentence that is drawn, then of the others, each text once."""
    first = draw.below(len(sentences))
    for sentence in (*sentences[first:], *sentences[:first]):
        texts = sentence.about(entries)
        count = len(texts)
        # far from each other, so that a word that will not do does not stand in all of them
        steps = itertools.count(int(count * _GOLDEN) | 1)
        step = next(step for step in steps if math.gcd(step, count) == 1)
        start = draw.below(count)
        for number in range(min(count, _TRIES)):
            yield texts[(start + number * step) % count]


class _Draw:
    """Random numbers that no other version of Python changes: `random.Random.random` alone."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def below(self, count: int) -> int:
        """A number from 0 to the count, without it."""
        return int(self._random.random() * count)

    def one_of(self, choices: Sequence[int]) -> int:
        """One of them."""
        return choices[self.below(len(choices))]

    def shuffled(self, entries: Sequence[ClassEntry]) -> list[ClassEntry]:
        """The same in an order that is drawn."""
        shuffled = list(entries)
        for last in range(len(shuffled) - 1, 0, -1):
            chosen = self.below(last + 1)
            shuffled[last], shuffled[chosen] = shuffled[chosen], shuffled[last]
        return shuffled
