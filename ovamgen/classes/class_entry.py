"""One class: its id, name and colour, and the words that name it in a caption.

The fields are the keys of a class file, and what may stand in them is decided here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from ovamgen.classes.phrases import MOST_WORDS, words_of
from ovamgen.storage.section import Section

BACKGROUND = 0
"""The label of pixels that show none of the classes."""
IGNORE = 255
"""The label of pixels that are neither trained on nor scored."""
MOST_CLASSES = IGNORE - 1
"""Labels have eight bits, and two of them are taken."""
MOST_PHRASES = 10_000
"""Phrases of a set: far more than any needs, and few enough to make their plurals in seconds."""
_MOST_CHARACTERS = 100


def checked_name(text: str) -> str:
    """The name of a class or a set, if it is one."""
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
        combined = itertools.islice(itertools.product(*choices), MOST_PHRASES)
        found += [" ".join(words) for words in combined]
        if len(found) >= MOST_PHRASES:
            raise ValueError(f"{phrase!r:.60} makes too many: at most {MOST_PHRASES} phrases")
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
    name: Annotated[StrictStr, AfterValidator(checked_name)]
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
    """Colour of its pixels in pictures: ``#ff8800``; by VOC's rule where not given."""
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
        return self.in_sentence(self.phrase)

    def in_sentence(self, phrase: str, attribute: str = "") -> str:
        """One of its phrases with an attribute, or none, and the article: ``a small aeroplane``."""
        noun = f"{attribute} {phrase}".strip()
        usual = "an" if noun[0].lower() in "aeiou" else "a"
        own = self.article if phrase == self.phrase else None
        article = usual if own is None or (attribute and own in ("a", "an")) else own
        return f"{article} {noun}".strip()

    @property
    def nouns(self) -> tuple[str, ...]:
        """The phrases that name it in a caption and have a plural."""
        return (*self.names, *self.synonyms)
