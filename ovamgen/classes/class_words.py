"""The phrases that name the classes of a set in a caption, plurals included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ovamgen.classes.class_entry import ClassEntry
from ovamgen.classes.phrases import Phrase, PhraseTable, words_of
from ovamgen.classes.plurals import plural_of
from ovamgen.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A phrase that is written as one class's, and is the plural of another's."""

    phrase: str
    taken_by: ClassEntry
    plural_of: ClassEntry


def claims(classes: Iterable[ClassEntry]) -> dict[Phrase, ClassEntry]:
    """The class of each phrase that somebody wrote.

    Raises:
        ValueError: a phrase names two classes.
    """
    claimed: dict[Phrase, ClassEntry] = {}
    for entry in classes:
        for words in map(words_of, (*entry.nouns, *entry.forms)):
            other = claimed.setdefault(words, entry)
            if other is not entry:
                raise ValueError(_claimed_twice(words, other, entry))
    return claimed


def phrase_table(classes: Iterable[ClassEntry]) -> PhraseTable:
    """The table of a set's phrases with the plurals.

    What is written wins over what is made, a class over what another one's ``not`` says, and its
    own ``not`` over its names: "orange" alone may be a colour, while "oranges" are fruit.

    Raises:
        ConfigError: two classes have the same plural.
    """
    classes = tuple(classes)
    claimed = claims(classes)
    named: dict[Phrase, ClassEntry] = {}
    ignored: set[Phrase] = set()
    for entry in classes:
        written = set(map(words_of, (*entry.excluded, *entry.excluded_forms)))
        made = set(_plurals(entry.excluded))
        for words in _plurals(entry.nouns):
            if words in claimed or words in written | made:
                continue
            if named.setdefault(words, entry) is not entry:
                raise ConfigError(
                    f"{_claimed_twice(words, named[words], entry)}, as one of its 'forms'"
                )
        given = map(words_of, (*entry.nouns, *entry.forms))
        named |= {words: entry for words in given if words not in written}
        ignored |= written | made
    return PhraseTable({words: entry.id for words, entry in named.items()}, ignored)


def contests(classes: Iterable[ClassEntry]) -> Iterator[Contest]:
    """Plurals of one class that are written as another's, whose they are."""
    classes = tuple(classes)
    claimed = claims(classes)
    for entry in classes:
        for words in dict.fromkeys(_plurals(entry.nouns)):
            if claimed.get(words, entry) is not entry:
                yield Contest(phrase=" ".join(words), taken_by=claimed[words], plural_of=entry)


def plural_sources(classes: Iterable[ClassEntry]) -> Iterator[str]:
    """The phrases whose plurals a set needs, in lower case."""
    for entry in classes:
        yield from map(str.lower, (*entry.nouns, *entry.excluded))


def _plurals(phrases: Iterable[str]) -> Iterator[Phrase]:
    made = (words_of(plural_of(phrase.lower())) for phrase in phrases)
    # of what is no English word there may be none
    return (words for words in made if words)


def _claimed_twice(words: Phrase, one: ClassEntry, other: ClassEntry) -> str:
    return f"'{' '.join(words)}' names both {one.name} and {other.name}: leave it with one of them"
