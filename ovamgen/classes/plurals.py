"""Plurals of English nouns, as ``inflect`` makes them.

Its import takes longer than the plan of ten thousand captions, so those of the built-in sets' words
ship with the package; ``python -m recipes.plurals`` writes them again.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inflect import engine

FILE = resources.files("ovamgen.classes") / "sets" / "plurals.json"


def plural_of(phrase: str) -> str:
    """The plural of a phrase in lower case: ``plants in a pot`` of ``plant in a pot``."""
    known = _shipped()
    return known[phrase] if phrase in known else inflected(phrase)


def inflected(phrase: str) -> str:
    """The same by ``inflect``, whatever ships."""
    return str(_engine().plural_noun(phrase))


@functools.cache
def _engine() -> engine:
    import inflect

    return inflect.engine()


@functools.cache
def _shipped() -> dict[str, str]:
    plurals: dict[str, str] = json.loads(FILE.read_text("utf-8"))
    return plurals
