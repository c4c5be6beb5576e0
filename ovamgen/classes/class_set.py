"""Which classes there are: ids, names, colours, and where a caption names them.

A `ClassSet` is a value: made once, and saved with everything that has labels. It knows what a word
means, not where a caption comes from.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, StrictStr, ValidationError, field_validator

from ovamgen.classes.class_entry import (
    BACKGROUND,
    MOST_CLASSES,
    MOST_PHRASES,
    ClassEntry,
    checked_name,
)
from ovamgen.classes.class_words import claims, phrase_table
from ovamgen.classes.phrases import Phrase, PhraseTable, words_of
from ovamgen.console.wording import listed, nearest
from ovamgen.errors import ConfigError
from ovamgen.storage.section import Section, one_line

_MOST_NAMES_TOLD = 24
_MOST_TOLD = 300
"""Characters of a message about a record: what came may be of any length."""


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

    name: Annotated[StrictStr, AfterValidator(checked_name)]
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
        if sum(len(entry.nouns) + len(entry.forms) for entry in classes) > MOST_PHRASES:
            raise ValueError(f"expected at most {MOST_PHRASES} phrases in all")
        claims(classes)
        return tuple(sorted(classes, key=lambda entry: entry.id))

    def __len__(self) -> int:
        return len(self.classes)

    def __getstate__(self) -> dict[Any, Any]:
        """Without what was worked out."""
        state = super().__getstate__()
        return state | {"__dict__": {"name": self.name, "classes": self.classes}}

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
        hint = nearest(" ".join(words), map(" ".join, self._claims))
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

    def is_silent(self, text: str) -> bool:
        """Whether a text has no word of any class, not even in "hot dog" or "toy car".

        What such words draw may look like the class.
        """
        return self._table.is_silent(text)

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

    @property
    def identity(self) -> str:
        """Name and digest: what tells two sets apart, for people and for fingerprints."""
        return f"{self.name} (sha256 {self.digest[:16]})"

    @property
    def label_names(self) -> tuple[str, ...]:
        """By label, the name of its class: ``background`` for 0, "" for those that none has."""
        return self._by_label("name")

    @property
    def phrase_by_name(self) -> dict[str, str]:
        """The phrase of each class, by its name."""
        return {entry.name: entry.phrase for entry in self.classes}

    @property
    def label_phrases(self) -> tuple[str, ...]:
        """By label, the phrase of its class: ``background`` for 0, "" for those that none has."""
        return self._by_label("phrase")

    def _by_label(self, field: str) -> tuple[str, ...]:
        found = ["background", *[""] * (self.labels - 1)]
        for entry in self.classes:
            found[entry.id] = getattr(entry, field)
        return tuple(found)

    @property
    def told_labels(self) -> str:
        """Its labels for messages: ``0 to 20``, or ``0, 1, 7, 254`` where the ids have gaps."""
        if self.labels == len(self) + 1:
            return f"0 to {len(self)}"
        return listed(map(str, (BACKGROUND, *self._by_id)), _MOST_NAMES_TOLD)

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
        return claims(self.classes)

    @functools.cached_property
    def _table(self) -> PhraseTable:
        return phrase_table(self.classes)

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
