"""What may be asked of every export in the layout of another tool: splits, size, classes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ovamgen.bounds import MAX_SIDE_PX
from ovamgen.classes.class_set import ClassSet
from ovamgen.corpus.export.splits import Splits
from ovamgen.errors import ConfigError

_SIZE = re.compile(r"(\d{1,6})(?:x(\d{1,6}))?")


@dataclass(frozen=True, slots=True)
class Size:
    """The size that samples are brought to, in pixels."""

    width: int
    """Width of every sample; the shorter side where there is no height."""
    height: int | None = None

    @classmethod
    def parse(cls, text: str) -> Size:
        """The size that ``512``, the shorter side, or ``640x480``, width and height, names.

        Raises:
            ConfigError: another form, or a side that no picture may have.
        """
        found = _SIZE.fullmatch(text.strip().lower())
        sides = [int(side) for side in found.groups() if side] if found else []
        if not sides or any(not 0 < side <= MAX_SIDE_PX for side in sides):
            raise ConfigError(
                "--size expects pixels of the shorter side, such as 512, or of width and height, "
                f"such as 640x480, each from 1 to {MAX_SIDE_PX}; got '{text}'"
            )
        return cls(*sides)

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a sample that had these."""
        if self.height is not None:
            return self.height, self.width
        scale = self.width / min(height, width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def __str__(self) -> str:
        """The size as it is typed."""
        return f"{self.width}" if self.height is None else f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How samples are divided and altered before a format sees them."""

    splits: Splits | None = None
    """None leaves it to the format, and if that has no rule, to the shards."""
    size: Size | None = None
    """Images are resized by Lanczos' filter and compressed anew, masks take the nearest pixel."""
    only_classes: tuple[str, ...] = ()
    """Names of the classes that stay; the others' pixels become background. Empty keeps all.

    Samples that show none of them stay as well, as pictures of background; ids are kept.
    """

    @classmethod
    def parse(
        cls, *, split: str | None = None, size: str | None = None, only_classes: str | None = None
    ) -> ExportOptions:
        """The options as they are typed; None where one is not given.

        Raises:
            ConfigError: a value of another form.
        """
        return cls(
            splits=Splits.parse(split) if split is not None else None,
            size=Size.parse(size) if size is not None else None,
            only_classes=tuple(
                name.strip() for name in (only_classes or "").split(",") if name.strip()
            ),
        )

    def classes_of(self, classes: ClassSet) -> ClassSet:
        """Those of the classes that stay.

        Raises:
            ConfigError: a name that the set does not have; the nearest one is given.
        """
        if not self.only_classes:
            return classes
        kept = {classes.by_name(name).id for name in self.only_classes}
        entries = tuple(entry for entry in classes.classes if entry.id in kept)
        return ClassSet(name=classes.name, classes=entries)

    def request(self, classes: ClassSet) -> dict[str, Any]:
        """Plain values of what was asked; nothing of what was not."""
        asked: dict[str, Any] = {}
        if self.splits is not None:
            asked["split"] = str(self.splits)
        if self.size is not None:
            asked["size"] = str(self.size)
        if self.only_classes:
            asked["only_classes"] = [entry.name for entry in self.classes_of(classes).classes]
        return asked
