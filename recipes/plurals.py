"""Writes the plurals that ship with the built-in class sets: ``python -m recipes.plurals``."""

from __future__ import annotations

import json
from pathlib import Path

from ovamgen.classes.class_words import plural_sources
from ovamgen.classes.loading import BUILT_IN, built_in
from ovamgen.classes.plurals import FILE, inflected


def plurals_file() -> str:
    """The text of the file: the plural of every phrase of the built-in sets, sorted."""
    phrases = {phrase for name in BUILT_IN for phrase in plural_sources(built_in(name).classes)}
    plurals = {phrase: inflected(phrase) for phrase in sorted(phrases)}
    return json.dumps(plurals, indent=0, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(str(FILE)).write_text(plurals_file(), "utf-8")
