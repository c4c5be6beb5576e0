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

        Where a class has at least ``SPLIT_MINIMUM`` sprites, a fifth of them (at least one) is for
        validation, another fifth for test, by the order of the digests of their names, and those
        of ``core`` are always for training; other classes show all of theirs everywhere.
        """
        return {class_id: self._members(split, class_id) for class_id in range(1, len(CLASSES) + 1)}

    def _members(self, split: Split, class_id: int) -> list[int]:
        every = [int(i) for i in np.flatnonzero(self.class_ids == class_id)]
        if len(every) < SPLIT_MINIMUM:
            return every
        free = [i for i in every if self.names[i] not in CORE_SPRITES]
        free.sort(key=lambda i: hashlib.sha256(self.names[i].encode()).digest())
        share = min(max(1, len(every) // 5), len(free) // 2)
        held = {"val": free[:share], "test": free[share : 2 * share]}
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
    """All sprites, one class a row, in their order."""
    counts = np.bincount(sprites.class_ids)[1:]
    sheet = Image.new("RGB", (cell * int(counts.max()), cell * len(counts)), (200, 220, 200))
    column = [0] * (len(counts) + 1)
    for class_id, pixels in zip(sprites.class_ids, sprites.pixels, strict=True):
        image = Image.fromarray(pixels).resize((cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(image, (column[class_id] * cell, (int(class_id) - 1) * cell), image)
        column[class_id] += 1
    return sheet
