"""What an attack is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Something that a healthy specimen is changed into."""

    family: str
    name: str
    target: str
    """The part of the specimen that is read: a key of `tests.hostile.commands.COMMANDS`."""
    damage: Callable[[Path], object]
    """Changes a copy of the specimen, whose folder it is given."""

    @property
    def label(self) -> str:
        """For tables and for the names of tests."""
        return f"{self.family}: {self.name}"
