"""Phrases looked for in a text: how text is cut into words, and a table that finds the longest.

What a phrase stands for is a number of the caller's; no class is known here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

Phrase = tuple[str, ...]
"""The words of a phrase, as `words_of` gives them."""

MOST_WORDS = 12
"""Words of a phrase: what a place of a text is compared with has to have an end."""

_WORD = re.compile(r"[^\W_]+|[^\w\s-]")
"""A word, or one sign. Spaces, hyphens and underscores only part words, so that "hot-dog" is
"hot dog"; other signs are kept, so that "car, park" is no car park."""

IMITATIONS_BEFORE = frozenset(
    ["toy", "stuffed", "plush", "model", "lego", "cartoon", "origami", "porcelain", "gingerbread"]
)
"""What stands before a noun that the picture then does not show: "toy train"."""

IMITATIONS_AFTER = frozenset(
    [
        *["statue", "sculpture", "statuette", "figurine", "doll", "puppet", "costume", "ornament"],
        *["statues", "sculptures", "statuettes", "figurines", "dolls", "puppets", "costumes"],
        *["ornaments", "cutout", "cutouts", "shaped", "themed"],
    ]
)
"""What stands after a noun that the picture then does not show: "horse statue"."""


def words_of(text: str) -> Phrase:
    """The words and signs of a text, in lower case; both apostrophes are one."""
    return tuple(map(_folded, _WORD.findall(text)))


class PhraseTable:
    """Finds phrases in texts, the longest first."""

    def __init__(self, phrases: Mapping[Phrase, int], ignored: Iterable[Phrase]) -> None:
        """A table of what the phrases stand for, and of longer ones that stand for nothing.

        Args:
            phrases: of at most `MOST_WORDS` words each.
            ignored: compounds that hold such a phrase and mean something else; one that is among
                the phrases too stands for what they say.
        """
        self.phrases = phrases
        self._values: dict[Phrase, int | None] = {**dict.fromkeys(ignored), **phrases}
        lengths = defaultdict(set)
        for phrase in self._values:
            lengths[phrase[0]].add(len(phrase))
        self._lengths = {word: sorted(found, reverse=True) for word, found in lengths.items()}
        """By the first word of a phrase, how many words those have that begin with it."""

    def find(self, text: str) -> Iterator[tuple[int, int, int]]:
        """What each phrase of the text stands for, its first character and the one after its last.

        Whole words in any case, in the order of the text, none of them in two phrases. Imitations
        ("toy car", "horse statue") are left out, unless they are phrases themselves. Linear in the
        length of the text.
        """
        places = [(match.group(), match.start(), match.end()) for match in _WORD.finditer(text)]
        words = tuple(_folded(word) for word, _, _ in places)
        position = 0
        while position < len(words):
            length, value = self._longest(words, position)
            after = position + length
            if (
                value is not None
                and not (position and words[position - 1] in IMITATIONS_BEFORE)
                and not (after < len(words) and words[after] in IMITATIONS_AFTER)
            ):
                yield value, places[position][1], places[after - 1][2]
            position = after

    def is_silent(self, text: str) -> bool:
        """Whether no phrase stands in a text, ignored compounds and imitations included."""
        words = words_of(text)
        return all(
            words[start : start + length] not in self._values
            for start, word in enumerate(words)
            for length in self._lengths.get(word, ())
        )

    def _longest(self, words: Phrase, position: int) -> tuple[int, int | None]:
        """The words that the longest phrase takes from a position, and what it stands for."""
        for length in self._lengths.get(words[position], ()):
            phrase = words[position : position + length]
            if phrase in self._values:
                return len(phrase), self._values[phrase]
        return 1, None


def _folded(word: str) -> str:
    return "'" if word == "\u2019" else word.lower()
