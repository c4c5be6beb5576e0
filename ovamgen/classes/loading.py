"""Class sets by name, from files, and from names on the command line."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

import yaml

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.phrases import Phrase, words_of
from ovamgen.console.wording import nearest
from ovamgen.errors import ConfigError
from ovamgen.storage.yaml_files import read_yaml_mapping

BUILT_IN = ("voc", "coco", "ade150", "cityscapes19")
"""The sets that ship with the package."""

DEFAULT = "voc"
"""The set of whatever names none: what was made before there were others has no record of it."""

_RECORD = "classes"

_KNOWN_WORDS = ("voc", "coco")
"""The sets whose words a class gets that is given by its name alone, the first first."""


def as_class_set(value: object) -> ClassSet:
    """The set that a configuration asks for.

    Args:
        value: a set; what `load_class_set` takes; a list of names; or what a class file holds.

    Raises:
        ConfigError: it stands for no set.
    """
    match value:
        case ClassSet():
            return value
        case str():
            return load_class_set(value)
        case Mapping():
            return from_saved({_RECORD: value})
        case [*names] if all(isinstance(name, str) for name in names):
            return _from_names([str(name) for name in names])
    raise ConfigError(
        f"classes must be a built-in set, a .yaml file, names, or a set written out, got "
        f"{value!r:.60}"
    )


def default_classes() -> ClassSet:
    """The set of whatever names none: `DEFAULT`."""
    return built_in(DEFAULT)


def is_default(classes: ClassSet) -> bool:
    """Whether it is the set of whatever names none."""
    return classes == default_classes()


def as_saved(classes: ClassSet) -> dict[str, Any]:
    """What is written into the record of something that has labels; nothing for `DEFAULT`."""
    return {} if is_default(classes) else {_RECORD: classes.as_record()}


def from_saved(record: Mapping[str, Any]) -> ClassSet:
    """The set that a record names, which may come from anybody: no file is opened for it.

    Raises:
        ConfigError: what it holds is no set.
    """
    if _RECORD not in record:
        return default_classes()
    try:
        # plurals take a second to make, and who reads labels needs none
        return ClassSet.from_record(record[_RECORD])
    except ConfigError as error:
        raise ConfigError(f"classes: {error}") from None


def is_set(text: str) -> bool:
    """Whether a text that somebody gave names a set or a class file, and no class."""
    return text in BUILT_IN or text.endswith((".yaml", ".yml"))


def load_class_set(place: str) -> ClassSet:
    """The set that ``--classes`` names.

    Args:
        place: one of `BUILT_IN`; a YAML file or URL that ends in ``.yaml`` or ``.yml``; or names
            joined by commas, of which those that `voc` or `coco` knows bring their words along.

    Raises:
        ConfigError: no set has that name, the file cannot be read, or what it says is no set.
    """
    if place in BUILT_IN:
        return built_in(place)
    if is_set(place):
        return _from_file(place)
    if "," in place:
        return _from_names([name.strip() for name in place.split(",") if name.strip()])
    raise ConfigError(
        "classes must be a built-in set, a .yaml file, or names with commas between them (of one "
        f"class 'forklift,'), got '{place:.60}'{nearest(place, BUILT_IN)}"
    )


@functools.cache
def built_in(name: str) -> ClassSet:
    """A set of `BUILT_IN`."""
    text = (resources.files("ovamgen.classes") / "sets" / f"{name}.yaml").read_bytes()
    # the package's own: no need to look for what a stranger's file may do
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return ClassSet.from_record(yaml.load(text, loader))


def _from_file(place: str) -> ClassSet:
    data = read_yaml_mapping(place, "class file", "'name:' and a list 'classes:'")
    if "name" not in data:
        data = {"name": PurePosixPath(place.replace("\\", "/")).stem, **data}
    return _checked(f"class file {place}", data)


def _from_names(names: list[str]) -> ClassSet:
    """Classes of the given names, with the words of those that a built-in set knows.

    A word that is given as a name is that class and no other's: of ``person,worker`` a worker is
    no person.
    """
    given = {words_of(name) for name in names}
    entries = [
        {key: _without(given - {words_of(name)}, value) for key, value in _known(name).items()}
        for name in names
    ]
    joined = "-".join(entry["name"] for entry in entries)
    if len(joined) > 40 and entries:
        joined = f"{entries[0]['name']}-and-{len(names) - 1}-more"
    return _checked(
        f"classes '{','.join(names):.60}'", {"name": joined or "none", "classes": entries}
    )


def _checked(told: str, record: object) -> ClassSet:
    try:
        classes = ClassSet.from_record(record)
        classes.check_words()
    except ConfigError as error:
        raise ConfigError(f"{told}: {error}") from None
    return classes


def _known(name: str) -> dict[str, Any]:
    """A class of a name, with the words that a built-in set has for it."""
    words = words_of(name)
    given: dict[str, Any] = {"name": "-".join(name.split()), "phrase": " ".join(name.split())}
    for entry in (entry for known in _KNOWN_WORDS for entry in built_in(known).classes):
        if words in map(words_of, entry.names):
            if words in (words_of(entry.name), words_of(entry.phrase)):
                given |= {"name": entry.name, "phrase": entry.phrase, "article": entry.article}
            return given | {
                "synonyms": (*entry.names, *entry.synonyms),
                "forms": entry.forms,
                "not": entry.excluded,
                "not_forms": entry.excluded_forms,
                "coco": entry.coco_names,
            }
    return given


def _without(phrases: set[Phrase], value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    return tuple(phrase for phrase in value if words_of(phrase) not in phrases)
