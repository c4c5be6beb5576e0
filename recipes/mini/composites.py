"""Pictures of one to three sprites on a background, with exact label maps and captions.

A composite is a function of the settings, the sprites and its index. Sizes are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ovamgen.errors import ConfigError
from recipes.mini.backgrounds import WORDS, paint
from recipes.mini.captions import write_caption
from recipes.mini.catalogue import CLASSES
from recipes.mini.sprites import Sprites

SIDE = 128
_LANDSCAPES = tuple(kind for kind in WORDS if kind != "plain")
_LANDSCAPE_SHARE = 0.65
_HUE_SHIFT_SHARE = 0.6
_ROTATED_SHARE = 0.3
_MAX_ROTATION_DEGREES = 8.0
_FLIPPED_SHARE = 0.5
_OVERLAPS: dict[int, tuple[tuple[float, float], tuple[float, float]]] = {
    2: ((0.44, 0.60), (0.32, 0.46)),
    3: ((0.36, 0.46), (0.25, 0.31)),
}
"""Sides of the sprites and distances of neighbours' centres, as shares of the picture's side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """One picture and what is known of it."""

    image: UInt8[np.ndarray, "128 128 3"]
    labels: UInt8[np.ndarray, "128 128"]
    """VOC ids; 0 background. A pixel is an object's where its alpha is at least one half."""
    caption: str
    class_ids: tuple[int, ...]
    """The classes of the objects, from left to right."""
    background: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Composer:
    """Makes composites; the same index always gives the same one."""

    sprites: Sprites
    members: dict[int, list[int]]
    """Indices of the sprites to use, by VOC id."""
    seed: int
    two_object_share: float = 0.27
    three_object_share: float = 0.0
    overlaps: bool = False
    """Objects of one picture may hide parts of each other; those lower in the picture are nearer.
    Otherwise there are at most two, side by side."""
    flips: bool = True
    """Mirror half of the sprites, left to right."""

    def __post_init__(self) -> None:
        """Refuses three objects side by side: they have no room.

        Raises:
            ConfigError: the settings contradict each other.
        """
        if self.three_object_share and not self.overlaps:
            raise ConfigError("pictures of three objects need overlaps, got overlaps=False")

    def compose(self, index: int, class_id: int | None = None) -> Composite:
        """The composite of that index (any non-negative number).

        Args:
            index: decides everything that the class does not.
            class_id: VOC id of the first class; drawn where not given.
        """
        rng = np.random.default_rng([self.seed, index])
        draw = rng.random()
        three = draw < self.three_object_share
        count = 3 if three else 2 if draw < self.three_object_share + self.two_object_share else 1
        drawn = [int(i) + 1 for i in rng.choice(len(CLASSES), count, replace=False)]
        if class_id is not None:
            for place, other in enumerate(drawn[1:], start=1):
                if other == class_id:
                    drawn[place] = drawn[0] if three else class_id % len(CLASSES) + 1
            drawn[0] = class_id
        class_ids = tuple(drawn)
        landscape = rng.random() < _LANDSCAPE_SHARE
        background = str(rng.choice(_LANDSCAPES)) if landscape else "plain"
        canvas = Image.fromarray(paint(rng, background, SIDE).round().astype(np.uint8))
        labels = np.zeros((SIDE, SIDE), np.uint8)
        crowded = self.overlaps and count > 1
        boxes = _overlapping_boxes(rng, count) if crowded else None
        placed: list[tuple[int, Image.Image, tuple[int, int]]] = []
        for place, class_id in enumerate(class_ids):
            sprite = self._pick(rng, class_id)
            if boxes:
                left, top, side = boxes[place]
            else:
                side = round(SIDE * rng.uniform(*((0.42, 0.52) if count > 1 else (0.58, 0.84))))
                left, top = _corner(rng, side, place if count > 1 else None)
            sprite = sprite.resize((side, side), Image.Resampling.LANCZOS)
            placed.append((class_id, sprite, (left, top)))
        if crowded:
            placed.sort(key=_lower_edge)
        for class_id, sprite, corner in placed:
            canvas.paste(sprite, corner, sprite)
            alpha = Image.new("L", (SIDE, SIDE))
            alpha.paste(sprite.getchannel("A"), corner)
            labels[np.asarray(alpha) >= 128] = class_id
        return Composite(
            image=np.asarray(canvas),
            labels=labels,
            caption=write_caption(rng, class_ids, background),
            class_ids=class_ids,
            background=background,
        )

    def _pick(self, rng: np.random.Generator, class_id: int) -> Image.Image:
        chosen = int(rng.choice(self.members[class_id]))
        sprite = shift_hue(rng, Image.fromarray(self.sprites.pixels[chosen]))
        if rng.random() < _ROTATED_SHARE:
            angle = rng.uniform(-_MAX_ROTATION_DEGREES, _MAX_ROTATION_DEGREES)
            sprite = sprite.rotate(angle, Image.Resampling.BICUBIC)
        if self.flips and rng.random() < _FLIPPED_SHARE:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return sprite


def shift_hue(rng: np.random.Generator, sprite: Image.Image) -> Image.Image:
    """The RGBA sprite in slightly other colours (hue, saturation, value), or as it was."""
    if rng.random() >= _HUE_SHIFT_SHARE:
        return sprite
    hsv = np.asarray(sprite.convert("RGB").convert("HSV")).astype(np.float64)
    hsv[..., 0] = (hsv[..., 0] + rng.normal(0, 7)) % 256
    hsv[..., 1] *= rng.uniform(0.8, 1.15)
    hsv[..., 2] *= rng.uniform(0.85, 1.1)
    content = np.clip(hsv, 0, 255).astype(np.uint8).tobytes()
    shifted = Image.frombytes("HSV", sprite.size, content).convert("RGB")
    shifted.putalpha(sprite.getchannel("A"))
    return shifted


def _overlapping_boxes(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    """Left, top and side of each of two or three sprites, from left to right."""
    sides, distances = _OVERLAPS[count]
    steps = rng.uniform(*distances, count - 1)
    # The middle one of three stands further away, so its neighbours hide little of it.
    heights = (0.54, 0.42, 0.54) if count == 3 else (0.52, 0.52)
    center_x = 0.5 - steps.sum() / 2 + rng.normal(0, 0.02)
    boxes = []
    for place, height in enumerate(heights):
        side = rng.uniform(*sides)
        center_y = height + rng.normal(0, 0.04)
        box = (center_x - side / 2, center_y - side / 2, side)
        boxes.append(tuple(round(SIDE * value) for value in box))
        center_x += steps[place] if place < count - 1 else 0
    return [(left, top, side) for left, top, side in boxes]


def _lower_edge(placed: tuple[int, Image.Image, tuple[int, int]]) -> int:
    _, sprite, (_, top) = placed
    return top + sprite.height


def _corner(rng: np.random.Generator, side: int, place: int | None) -> tuple[int, int]:
    """The left and top edge of a sprite: anywhere inside for one object, left or right for two."""
    if place is None:
        room = SIDE - side
        return int(rng.uniform(0.1, 0.9) * room), int(rng.uniform(0.15, 0.85) * room)
    center_x = (0.27 if place == 0 else 0.73) * SIDE + rng.normal(0, 2)
    center_y = 0.52 * SIDE + rng.normal(0, 5)
    return round(center_x - side / 2), round(center_y - side / 2)
