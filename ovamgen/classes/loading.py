"""Class sets by name, from files, and from names on the command line."""

from __future__ import annotations

import functools
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

_KNOWN_WORDS = ("voc", "coco")
"""The sets whose words a class gets that is given by its name alone, the first first."""


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
    if place.endswith((".yaml", ".yml")):
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
    try:
        classes = ClassSet.from_record(data)
        classes.check_words()
    except ConfigError as error:
        raise ConfigError(f"class file {place}: {error}") from None
    return classes


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
    try:
        classes = ClassSet.from_record({"name": joined or "none", "classes": entries})
        classes.check_words()
    except ConfigError as error:
        raise ConfigError(f"classes '{','.join(names):.60}': {error}") from None
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
