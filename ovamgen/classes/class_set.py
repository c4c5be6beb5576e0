"""Which classes there are: ids, names, colours, and the words that name them in a caption.

A `ClassSet` is a value: made once, and saved with everything that has labels. It knows what a word
means, not where a caption comes from.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import UInt8
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from ovamgen.classes.phrases import MOST_WORDS, Phrase, PhraseTable, words_of
from ovamgen.classes.plurals import plural_of
from ovamgen.config.section import Section
from ovamgen.config.validation_errors import one_line
from ovamgen.console.wording import nearest
from ovamgen.errors import ConfigError
from ovamgen.records import Target

BACKGROUND = 0
"""The label of pixels that show none of the classes."""
IGNORE = 255
"""The label of pixels that are neither trained on nor scored."""
MOST_CLASSES = IGNORE - 1
"""Labels have eight bits, and two of them are taken."""

_MOST_PHRASES = 10_000
"""Phrases of a set: far more than any needs, and few enough to make their plurals in seconds."""
_MOST_CHARACTERS = 100
_MOST_NAMES_TOLD = 24
_MOST_TOLD = 300
"""Characters of a message about a record: what came may be of any length."""


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", text):
        raise ValueError(
            f"a name must be one word of at most 64 letters, digits, - and _, got {text!r:.80}"
        )
    if text.lower() in ("background", "ignore"):
        raise ValueError(f"{text} is a label that every set has: take another name")
    return text


def _phrase(text: str) -> str:
    text = " ".join(text.split())
    words = words_of(text)
    if not any(character.isalnum() for character in text) or not text.isprintable():
        raise ValueError(f"a phrase must have letters or digits and nothing unprintable: {text!r}")
    if len(text) > _MOST_CHARACTERS or len(words) > MOST_WORDS:
        raise ValueError(
            f"a phrase must have at most {MOST_WORDS} words and {_MOST_CHARACTERS} characters, got "
            f"{text!r:.60}"
        )
    return text


def _expanded(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """``("a", "b/c d")`` as ``("a", "b d", "c d")``: strokes part choices."""
    found = []
    for phrase in phrases:
        choices = [word.split("/") for word in phrase.split()]
        combined = itertools.islice(itertools.product(*choices), _MOST_PHRASES)
        found += [" ".join(words) for words in combined]
        if len(found) >= _MOST_PHRASES:
            raise ValueError(f"{phrase!r:.60} makes too many: at most {_MOST_PHRASES} phrases")
    return tuple(map(_phrase, found))


def _colour(text: Any) -> Any:
    if text is None:
        raise ValueError("colour is empty: quote it ('#ff8800'), since # begins a comment in YAML")
    if isinstance(text, str) and not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f"a colour must be written as '#ff8800', got {text!r:.60}")
    return text.lower() if isinstance(text, str) else text


def _article(text: str) -> str:
    if len(text) > _MOST_CHARACTERS or not text.isprintable():
        raise ValueError(f"an article must be a few words such as 'a pair of', got {text!r:.60}")
    return text.strip()


def _listed(value: Any) -> Any:
    """One phrase is a list of one; one with commas is several."""
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_Phrase = Annotated[StrictStr, AfterValidator(_phrase)]
_Phrases = Annotated[tuple[_Phrase, ...], BeforeValidator(_listed)]
_Choices = Annotated[tuple[StrictStr, ...], BeforeValidator(_listed), AfterValidator(_expanded)]
"""Phrases in which strokes part choices: "motor bike/cycle" is two."""


class ClassEntry(Section):
    """One class under each of its names; the fields are the keys of a class file."""

    model_config = ConfigDict(populate_by_name=True)

    id: StrictInt
    """1..254: the label of its pixels."""
    name: Annotated[StrictStr, AfterValidator(_name)]
    """One word, as files have it: ``diningtable``."""
    phrase: _Phrase = ""
    """As prompts have it, and what is attributed: ``dining table``. Of the name where not given."""
    phrases: _Phrases = ()
    """What is attributed instead, where one phrase cannot say it: car, bus and truck of vehicle."""
    synonyms: _Choices = ()
    """Other nouns that name it in a caption, plurals made: ``puppy``."""
    forms: _Choices = ()
    """The same taken exactly as they stand, such as irregular plurals: ``geese``."""
    excluded: Annotated[_Choices, Field(alias="not")] = ()
    """What holds one of its words and does not name it, plurals made: ``hot dog``."""
    excluded_forms: Annotated[_Choices, Field(alias="not_forms")] = ()
    """The same where the plural is no compound: "the bus stops here" names a bus."""
    coco: _Phrases = ()
    """Names of COCO's categories that are this class, beside its own names."""
    colour: Annotated[StrictStr, BeforeValidator(_colour)] = ""
    """Of its pixels in pictures: ``#ff8800``; by VOC's rule where not given."""
    article: Annotated[StrictStr, AfterValidator(_article)] | None = None
    """What stands before the phrase in a sentence; a or an where not given, "" for none."""

    @field_validator("id")
    @classmethod
    def _a_label(cls, value: int) -> int:
        if not BACKGROUND < value < IGNORE:
            raise ValueError(
                f"the id of a class must be from 1 to {MOST_CLASSES} (0 is background, 255 is "
                f"ignored), got {value}"
            )
        return value

    @model_validator(mode="before")
    @classmethod
    def _with_phrase(cls, data: Any) -> Any:
        name = data.get("name") if isinstance(data, Mapping) else None
        if isinstance(name, str) and "phrase" not in data:
            return {**data, "phrase": re.sub("[-_]", " ", name)}
        return data

    @property
    def attributed(self) -> tuple[str, ...]:
        """The phrases whose maps show the class: the largest of them, place by place."""
        return self.phrases or (self.phrase,)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that is a name of it: name, phrase, phrases and COCO's names, each once."""
        return tuple(dict.fromkeys((self.name, self.phrase, *self.coco, *self.phrases)))

    @property
    def coco_names(self) -> tuple[str, ...]:
        """COCO's categories that are this class, in lower case."""
        return tuple(name.lower() for name in self.names)

    @property
    def with_article(self) -> str:
        """The phrase as a sentence has it: ``an aeroplane``, ``a pair of scissors``."""
        usual = "an" if self.phrase[0].lower() in "aeiou" else "a"
        return f"{usual if self.article is None else self.article} {self.phrase}".strip()

    def target(self) -> Target:
        """The class as a sample's target."""
        return Target(class_id=self.id, class_name=self.name, phrase=self.phrase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A place where a text names a class."""

    entry: ClassEntry
    start: int
    """First character."""
    end: int
    """Character after the last."""


class ClassSet(Section):
    """The classes of a run, a corpus, a token bank or a network, in the order of their ids.

    Raises:
        ValidationError: pydantic's; `from_record` and `ovamgen.classes.loading` raise ConfigError.
    """

    name: Annotated[StrictStr, AfterValidator(_name)]
    classes: tuple[ClassEntry, ...]
    """1 to 254, ids ascending."""

    @field_validator("classes", mode="before")
    @classmethod
    def _numbered(cls, classes: Any) -> Any:
        """Classes without an id get one more than the class before them."""
        if not isinstance(classes, list | tuple):
            return classes
        if not classes:
            raise ValueError("expected at least one class, got an empty list")
        if len(classes) > MOST_CLASSES:
            raise ValueError(
                f"expected at most {MOST_CLASSES} classes, since masks have eight bits, got "
                f"{len(classes)}"
            )
        numbered = []
        last: Any = BACKGROUND
        for entry in classes:
            if isinstance(entry, Mapping):
                if "id" not in entry and isinstance(last, int):
                    entry = {**entry, "id": last + 1}
                last = entry.get("id")
            else:
                last = getattr(entry, "id", None)
            numbered.append(entry)
        return numbered

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[ClassEntry, ...]) -> tuple[ClassEntry, ...]:
        for what in ("id", "name"):
            seen: dict[Any, ClassEntry] = {}
            for entry in classes:
                value = getattr(entry, what)
                other = seen.setdefault(value.lower() if what == "name" else value, entry)
                if other is not entry:
                    raise ValueError(
                        f"two classes have the {what} {value!r}: {other.name} ({other.id}) and "
                        f"{entry.name} ({entry.id})"
                    )
        if sum(map(len, map(_given, classes))) > _MOST_PHRASES:
            raise ValueError(f"expected at most {_MOST_PHRASES} phrases in all")
        _claims(classes)
        return tuple(sorted(classes, key=lambda entry: entry.id))

    def __len__(self) -> int:
        return len(self.classes)

    def __reduce__(self) -> tuple[Any, ...]:
        # without what was worked out
        return ClassSet.from_record, (self.as_record(),)

    @property
    def labels(self) -> int:
        """Labels that a mask may hold beside the ignored one: 0 up to the highest id, counted."""
        return self.classes[-1].id + 1

    def by_id(self, class_id: int) -> ClassEntry:
        """The class with an id.

        Raises:
            ConfigError: no class has it.
        """
        try:
            return self._by_id[class_id]
        except KeyError:
            raise ConfigError(
                f"expected a class id of {self.name}, from {self.classes[0].id} to "
                f"{self.classes[-1].id}, got {class_id}"
            ) from None

    def by_name(self, text: str) -> ClassEntry:
        """The class that a name, phrase, COCO name or synonym stands for.

        Upper case, plurals, and a hyphen or underscore for a space are understood.

        Raises:
            ConfigError: no class has that name; the nearest name is given.
        """
        words = words_of(text)
        # plurals of own sets take a second to make
        if found := self._claims.get(words):
            return found
        if words in self._table.phrases:
            return self._by_id[self._table.phrases[words]]
        names = {name for entry in self.classes for name in entry.names}
        hint = nearest(" ".join(words), names, cutoff=0.6)
        if "did you mean" not in hint:
            known = ", ".join(entry.name for entry in self.classes[:_MOST_NAMES_TOLD])
            more = len(self.classes) - _MOST_NAMES_TOLD
            hint = f": known are {known}" + (f" and {more} more" if more > 0 else "")
        raise ConfigError(f"unknown class {text!r:.60}{hint}")

    def find(self, text: str) -> tuple[Mention, ...]:
        """Every mention of a class in a text, in the order of the text.

        Whole words in any case, with plurals and synonyms. The longest phrase wins, so that
        compound nouns ("hot dog", "train station") name nothing or something else, and imitations
        ("toy car", "horse statue") name nothing. Linear in the length of the text.
        """
        return self._find(text)

    def palette(self) -> UInt8[np.ndarray, "256 3"]:
        """RGB of each label: the classes' own colours, else VOC's.

        VOC deals the id's bits to R, G, B, high bits first. Entry 0 is black, 255 (224, 224, 192).
        """
        palette = _voc_palette()
        for entry in self.classes:
            if entry.colour:
                palette[entry.id] = tuple(bytes.fromhex(entry.colour[1:]))
        return palette

    def as_record(self) -> dict[str, Any]:
        """Plain values that `from_record` reads, in the form of a class file."""
        record: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return record

    @classmethod
    def from_record(cls, record: object) -> ClassSet:
        """The set that plain values describe: those of `as_record`, or of a class file.

        Raises:
            ConfigError: an unknown key (the nearest one is named), a wrong value, classes that
                share an id, a name or a word; in one line.
        """
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            text = _in_words_of_the_file(record, error)
            more = "..." if len(text) > _MOST_TOLD else ""
            raise ConfigError(text[:_MOST_TOLD] + more) from None

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the record, hex: equal for sets that are equal."""
        text = json.dumps(self.as_record(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def check_words(self) -> None:
        """Checks that no word names two classes, plurals included.

        Raises:
            ConfigError: one does; both classes are named.
        """
        _ = self._table

    def phrases(self, class_id: int) -> tuple[str, ...]:
        """Every phrase that names a class in a caption, plurals included, sorted."""
        found = self._table.phrases.items()
        return tuple(sorted(" ".join(phrase) for phrase, named in found if named == class_id))

    @functools.cached_property
    def _by_id(self) -> dict[int, ClassEntry]:
        return {entry.id: entry for entry in self.classes}

    @functools.cached_property
    def _claims(self) -> dict[Phrase, ClassEntry]:
        return _claims(self.classes)

    @functools.cached_property
    def _table(self) -> PhraseTable:
        return _phrase_table(self._claims)

    @functools.cached_property
    def _find(self) -> Callable[[str], tuple[Mention, ...]]:
        table, by_id = self._table, self._by_id

        # what a prompt names is asked more than once, one after the other
        @functools.lru_cache(maxsize=8)
        def find(text: str) -> tuple[Mention, ...]:
            return tuple(
                Mention(entry=by_id[found], start=start, end=end)
                for found, start, end in table.find(text)
            )

        return find


def _in_words_of_the_file(record: object, error: ValidationError) -> str:
    """The first complaint, which begins with its class where it is about one: ``class 'pallet':``.

    It speaks of lists and mappings, as YAML has them.
    """
    text = one_line(error, ClassSet, "key")
    text = text.replace("valid tuple", "list").replace(
        "valid dictionary or instance of ClassEntry", "mapping such as {name: pallet}"
    )
    match error.errors()[0]["loc"]:
        case ("classes", int(index), *_):
            entry = record["classes"][index]  # type: ignore[index]  # pydantic was there
            name = entry.get("name") if isinstance(entry, Mapping) else None
            text = text.replace(f"classes.{index}.", "").replace(f"classes.{index}: ", "")
            return f"class {repr(name)[:40] if isinstance(name, str) else index + 1}: {text}"
    return text


def _nouns(entry: ClassEntry) -> tuple[str, ...]:
    """The phrases that plurals are made of."""
    return (*entry.names, *entry.synonyms)


def _given(entry: ClassEntry) -> tuple[str, ...]:
    """The phrases that name a class, as somebody wrote them."""
    return (*_nouns(entry), *entry.forms)


def plural_sources(classes: ClassSet) -> Iterator[str]:
    """The phrases of which a set needs the plural, in lower case."""
    for entry in classes.classes:
        yield from map(str.lower, (*_nouns(entry), *entry.excluded))


def _claims(classes: Iterable[ClassEntry]) -> dict[Phrase, ClassEntry]:
    """The class of each phrase that somebody wrote.

    Raises:
        ValueError: a phrase names two classes.
    """
    claimed: dict[Phrase, ClassEntry] = {}
    for entry in classes:
        for words in map(words_of, _given(entry)):
            other = claimed.setdefault(words, entry)
            if other is not entry:
                raise ValueError(_claimed_twice(words, other, entry))
    return claimed


def _claimed_twice(words: Phrase, one: ClassEntry, other: ClassEntry) -> str:
    return f"'{' '.join(words)}' names both {one.name} and {other.name}: leave it with one of them"


def _phrase_table(claimed: Mapping[Phrase, ClassEntry]) -> PhraseTable:
    """The table of a set's phrases with the plurals.

    What is written wins over what is made, a class over what another one's ``not`` says, and its
    own ``not`` over its names: "orange" alone may be a colour, while "oranges" are fruit.

    Raises:
        ConfigError: two classes have the same plural.
    """
    named: dict[Phrase, ClassEntry] = {}
    ignored: set[Phrase] = set()
    for entry in dict.fromkeys(claimed.values()):
        written = set(map(words_of, (*entry.excluded, *entry.excluded_forms)))
        made = {words_of(plural_of(text.lower())) for text in entry.excluded}
        for words in (words_of(plural_of(text.lower())) for text in _nouns(entry)):
            if words in claimed or words in written | made:
                continue
            if named.setdefault(words, entry) is not entry:
                raise ConfigError(
                    f"{_claimed_twice(words, named[words], entry)}, as one of its 'forms'"
                )
        named |= {words: entry for words in map(words_of, _given(entry)) if words not in written}
        ignored |= written | made
    return PhraseTable({words: entry.id for words, entry in named.items()}, ignored)


def _voc_palette() -> UInt8[np.ndarray, "256 3"]:
    labels = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            source = 3 * bit + channel
            palette[:, channel] |= (((labels >> source) & 1) << (7 - bit)).astype(np.uint8)
    return palette
