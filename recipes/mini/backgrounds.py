"""Backgrounds of the composites: plain, gradients and seven landscapes.

Knows no objects. Arrays are float32 RGB, 0 to 255; coordinates run from 0 (top, left) to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from PIL import Image

Pixels = Float32[np.ndarray, "side side 3"]
Color = tuple[float, float, float]

WORDS = {
    "grass": "on the grass",
    "sky": "in the sky",
    "snow": "in the snow",
    "street": "on the street",
    "night": "at night",
    "desert": "in the desert",
    "sea": "on the sea",
    "plain": "on a plain background",
}
"""How a caption names each kind of background; ``plain`` covers gradients too."""


def paint(rng: np.random.Generator, kind: str, side: int) -> Pixels:
    """A background of the kind, one of ``WORDS``, as (side, side, 3) RGB in [0, 255]."""
    painted = _PAINTERS[kind](rng, side)
    return np.clip(painted, 0, 255).astype(np.float32)


def _plain(rng: np.random.Generator, side: int) -> Pixels:
    color = rng.uniform(80, 245, 3)
    if rng.random() < 0.5:
        return np.broadcast_to(color, (side, side, 3)).astype(np.float32)
    other = np.clip(color + rng.normal(0, 40, 3), 0, 255)
    angle = rng.uniform(0, 2 * np.pi)
    across = np.linspace(-0.5, 0.5, side)
    ramp = 0.5 + across[None, :] * np.cos(angle) + across[:, None] * np.sin(angle)
    share = np.clip(ramp, 0, 1)[..., None]
    return (color * (1 - share) + other * share).astype(np.float32)


def _landscape(
    high: Color,
    low: Color,
    near: Color,
    far: Color,
    *,
    horizon: tuple[float, float] = (0.5, 0.7),
    wave: float = 0.012,
) -> Callable[[np.random.Generator, int], Pixels]:
    """A painter of a sky from ``high`` to ``low`` over a ground from ``near`` to ``far``."""

    def painter(rng: np.random.Generator, side: int) -> Pixels:
        rows = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
        level = rng.uniform(*horizon)
        sky = _ramp(rng, high, low, np.clip(rows / level, 0, 1))
        ground = _ramp(rng, near, far, np.clip((rows - level) / (1 - level), 0, 1))
        edge = level + _smooth(rng, 4, side)[0][None, :, None] * wave
        below = np.clip((rows - edge) * side / 1.5 + 0.5, 0, 1)
        return sky * (1 - below) + ground * below

    return painter


def _sky(rng: np.random.Generator, side: int) -> Pixels:
    rows = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    blue = _ramp(rng, (85, 150, 225), (165, 210, 245), rows)
    cloud = np.clip(_smooth(rng, 4, side)[..., None] * 0.7 - 0.3, 0, 0.8)
    return blue * (1 - cloud) + np.float32(250) * cloud


def _night(rng: np.random.Generator, side: int) -> Pixels:
    rows = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    dark = _ramp(rng, (10, 12, 35), (40, 45, 90), rows)
    return np.broadcast_to(dark, (side, side, 3)).astype(np.float32)


def _ramp(
    rng: np.random.Generator, start: Color, end: Color, share: Float32[np.ndarray, "side 1 1"]
) -> Float32[np.ndarray, "side 1 3"]:
    first = np.asarray(start, np.float32) + rng.normal(0, 8, 3)
    last = np.asarray(end, np.float32) + rng.normal(0, 6, 3)
    return (first * (1 - share) + last * share).astype(np.float32)


def _smooth(rng: np.random.Generator, knots: int, side: int) -> Float32[np.ndarray, "side side"]:
    """Smooth noise of about unit deviation: a few random knots, interpolated."""
    coarse = Image.fromarray(rng.normal(size=(knots, knots)).astype(np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


_PAINTERS: dict[str, Callable[[np.random.Generator, int], Pixels]] = {
    "grass": _landscape((120, 180, 235), (200, 225, 245), (100, 170, 70), (60, 120, 40)),
    "sky": _sky,
    "snow": _landscape((150, 185, 215), (205, 222, 236), (238, 243, 248), (220, 232, 242)),
    "street": _landscape((175, 160, 145), (200, 188, 175), (105, 105, 110), (75, 75, 80)),
    "night": _night,
    "desert": _landscape(
        (160, 200, 225), (240, 225, 190), (228, 190, 125), (200, 150, 85), wave=0.03
    ),
    "sea": _landscape(
        (130, 190, 235),
        (215, 230, 240),
        (40, 110, 165),
        (20, 70, 125),
        horizon=(0.35, 0.55),
        wave=0.002,
    ),
    "plain": _plain,
}
