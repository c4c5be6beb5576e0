"""Templates of captions: sentences with places for classes, and lists of words for the rest."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field, StrictStr, ValidationError, model_validator

from ovamgen.classes.class_entry import ClassEntry
from ovamgen.console.wording import nearest
from ovamgen.errors import ConfigError
from ovamgen.storage.section import Section, one_line
from ovamgen.storage.yaml_files import read_yaml_mapping

CLASS_SLOTS = ("class", "class2", "class3")
MOST_CLASSES = len(CLASS_SLOTS)
"""Classes that one sentence may be about."""

_SLOT = re.compile(r"\{([^{}]*)\}")
_MOST_CHARACTERS = 200
_MOST_TOLD = 300


def _text(text: str) -> str:
    text = " ".join(text.split())
    if len(text) > _MOST_CHARACTERS or not text.isprintable():
        raise ValueError(
            f"expected at most {_MOST_CHARACTERS} printable characters, got {text!r:.60}"
        )
    return text


_Texts = Annotated[
    tuple[Annotated[StrictStr, AfterValidator(_text)], ...], Field(min_length=1, max_length=1000)
]


class Templates(Section):
    """What captions are made of; the fields are the keys of a template file."""

    sentences: _Texts
    """With ``{class}``, ``{class2}``, ``{class3}``, and the names of `words` in braces."""
    attributes: _Texts = ("",)
    """What may stand between the article and the class; "" for nothing."""
    words: dict[StrictStr, _Texts] = Field(default_factory=dict)
    """Lists of words by name."""

    @model_validator(mode="after")
    def _sentences_can_be_filled(self) -> Templates:
        for name in set(CLASS_SLOTS) & set(self.words):
            raise ValueError(f"words: '{name}' stands for a class: give the list another name")
        for sentence in self.sentences:
            slots = _SLOT.findall(sentence)
            for slot in slots:
                if slot not in self.words and slot not in CLASS_SLOTS:
                    known = [*CLASS_SLOTS, *self.words]
                    raise ValueError(f"'{sentence}' holds {{{slot}}}{nearest(slot, known)}")
            if re.search(r"[{}]", _SLOT.sub("", sentence)):
                raise ValueError(f"'{sentence}' has a brace without its partner")
            classes = set(CLASS_SLOTS) & set(slots)
            if not classes or classes != set(CLASS_SLOTS[: len(classes)]):
                raise ValueError(
                    f"'{sentence}' must hold {{class}}, then {{class2}}, then {{class3}}"
                )
        if not self.about(1):
            raise ValueError("expected at least one sentence with {class} alone")
        return self

    def about(self, count: int) -> tuple[Sentence, ...]:
        """The sentences about a number of classes."""
        sentences = (Sentence(text, self) for text in self.sentences)
        return tuple(sentence for sentence in sentences if sentence.classes == count)


class Sentence:
    """A sentence of the templates, and what its slots are filled from."""

    def __init__(self, text: str, templates: Templates) -> None:
        """One of ``templates.sentences``."""
        self._parts = _SLOT.split(text)
        """Text and names of slots in turn."""
        self._templates = templates
        self.classes = len(set(CLASS_SLOTS) & set(self._parts[1::2]))
        """Classes that it is about."""

    def about(self, entries: Sequence[ClassEntry]) -> SentenceTexts:
        """Every text that it can become for these classes."""
        return SentenceTexts(
            parts=self._parts, choices=[self._choices(slot, entries) for slot in self._parts[1::2]]
        )

    def _choices(self, slot: str, entries: Sequence[ClassEntry]) -> Sequence[str]:
        if slot not in CLASS_SLOTS:
            return self._templates.words[slot]
        entry = entries[CLASS_SLOTS.index(slot)]
        attributes = self._templates.attributes
        return [
            entry.in_sentence(*noun) for noun in itertools.product(entry.attributed, attributes)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceTexts:
    """The texts of one sentence, numbered; some may be equal."""

    parts: Sequence[str]
    choices: Sequence[Sequence[str]]
    """What each second part may become."""

    def __len__(self) -> int:
        return math.prod(map(len, self.choices))

    def __getitem__(self, number: int) -> str:
        """The text of a number below the length, as plans clean it."""
        parts = list(self.parts)
        for place, choices in enumerate(self.choices):
            number, chosen = divmod(number, len(choices))
            parts[2 * place + 1] = choices[chosen]
        return " ".join("".join(parts).split()).strip(" .,")


def load_templates(place: str | None = None) -> Templates:
    """The templates of a YAML file or URL, else those that ship.

    Raises:
        ConfigError: the file cannot be read, or holds no templates.
    """
    if place is None:
        text = (resources.files("ovamgen") / "data" / "prompt_templates.yaml").read_text("utf-8")
        return Templates.model_validate(yaml.safe_load(text))
    data = read_yaml_mapping(place, "template file", "a list 'sentences:'")
    try:
        return Templates.model_validate(data)
    except ValidationError as error:
        text = one_line(error, Templates, "key").replace("valid tuple", "list")
        raise ConfigError(f"template file {place}: {text:.{_MOST_TOLD}}") from None
