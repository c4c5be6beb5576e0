"""The sprites: their file, and which of them belong to training, validation and test.

Knows nothing of where they come from (``rasterise``) or what is made of them (``composites``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from ovamgen.errors import ConfigError
from recipes.mini.catalogue import CLASSES, CORE_SPRITES

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

SPRITE_SIDE = 160
SPLIT_MINIMUM = 6
"""Classes with fewer sprites show the same ones in every split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprites:
    """All sprites, in the order of classes, icons and icon sets."""

    names: tuple[str, ...]
    """``set/icon``; ``drawn/...`` where the recipe drew it."""
    class_ids: Int64[np.ndarray, " n"]
    """VOC ids, 1 to 20."""
    pixels: UInt8[np.ndarray, "n 160 160 4"]
    """RGBA, not premultiplied; the object touches two opposite borders."""

    def of_split(self, split: Split) -> dict[int, list[int]]:
        """Indices of the split's sprites by VOC id.

        Where a class has at least ``SPLIT_MINIMUM`` sprites, about a fifth of them is for
        validation, another fifth for test, by the order of the digests of their names, and those
        of ``core`` are always for training; other classes show all of theirs everywhere. Sprites of
        nearly one shape (``twin_name``) stay together, so a test sprite is a stranger.
        """
        return {class_id: self._members(split, class_id) for class_id in range(1, len(CLASSES) + 1)}

    def _members(self, split: Split, class_id: int) -> list[int]:
        every = [int(i) for i in np.flatnonzero(self.class_ids == class_id)]
        if len(every) < SPLIT_MINIMUM:
            return every
        twins: dict[str, list[int]] = {}
        for index in every:
            twins.setdefault(twin_name(self.names[index]), []).append(index)
        free = {
            name: group
            for name, group in twins.items()
            if not any(self.names[index] in CORE_SPRITES for index in group)
        }
        order = sorted(free, key=lambda name: hashlib.sha256(name.encode()).digest())
        held: dict[str, list[int]] = {"val": [], "test": []}
        for members in held.values():
            while order and len(members) < len(every) // 5:
                members += free[order.pop(0)]
        if split == "train":
            return [i for i in every if i not in held["val"] + held["test"]]
        return sorted(held[split])

    def core(self) -> dict[int, list[int]]:
        """Indices of the few boldest sprites of each class, by VOC id: the start of training."""
        return {
            class_id: [
                int(i)
                for i in np.flatnonzero(self.class_ids == class_id)
                if self.names[i] in CORE_SPRITES
            ]
            for class_id in range(1, len(CLASSES) + 1)
        }

    def digest(self) -> str:
        """sha256 (hex) of names and pixels."""
        content = hashlib.sha256("\n".join(self.names).encode())
        content.update(self.pixels.tobytes())
        return content.hexdigest()


def twin_name(name: str) -> str:
    """What sprites of nearly one shape share: a flat copy of a set, its men, women and persons."""
    source, icon = name.split("/")
    kind = icon.rstrip("-0123456789").split("-")[-1]
    people = kind in ("standing", "walking")
    return f"{source.removesuffix('-flat')}/{kind if people else icon}"


def save_sprites(sprites: Sprites, path: Path) -> None:
    """Writes the sprites as ``.npz``; equal sprites give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = np.array(sprites.names)
    np.savez_compressed(path, names=names, class_ids=sprites.class_ids, pixels=sprites.pixels)


def load_sprites(path: Path) -> Sprites:
    """The sprites that ``save_sprites`` wrote.

    Raises:
        ConfigError: the file does not exist.
    """
    if not path.exists():
        raise ConfigError(f"{path} must hold the sprites, it does not exist: run 'sprites' first")
    with np.load(path) as data:
        names = tuple(str(name) for name in data["names"])
        return Sprites(names=names, class_ids=data["class_ids"], pixels=data["pixels"])


def sprite_sheet(sprites: Sprites, cell: int = 64) -> Image.Image:
    """All sprites, one class a row: those of training on green, validation yellow, test red."""
    counts = np.bincount(sprites.class_ids)[1:]
    sheet = Image.new("RGB", (cell * int(counts.max()), cell * len(counts)), (255, 255, 255))
    tones = ((200, 225, 200), (250, 235, 150), (245, 190, 190))
    members = [sprites.of_split(split) for split in SPLITS]
    for class_id in range(1, len(counts) + 1):
        # A class with few sprites has the same in every split, and shows them once.
        shown = dict.fromkeys(
            index for of_class in members[::-1] for index in reversed(of_class[class_id])
        )
        for column, index in enumerate(reversed(shown)):
            split = next(i for i, of_class in enumerate(members) if index in of_class[class_id])
            image = Image.fromarray(sprites.pixels[index])
            image = image.resize((cell, cell), Image.Resampling.LANCZOS)
            corner = (column * cell, (class_id - 1) * cell)
            sheet.paste(tones[split], (*corner, corner[0] + cell, corner[1] + cell))
            sheet.paste(image, corner, image)
    return sheet
