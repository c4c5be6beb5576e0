"""The three pictures of a sample, side by side on a sheet: image, heatmap, mask."""

from __future__ import annotations

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from ovamgen.plan.vocabulary import BACKGROUND, IGNORE, voc_palette
from ovamgen.shards.arrays import decode_png

COLOUR_MAP = "inferno"
"""Evenly brighter with the value, so that it also reads without colour."""

IGNORE_COLOUR = (235, 235, 235)
_MASK_OPACITY = 0.72


def fit(
    image: UInt8[np.ndarray, "H W 3"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """The image at the panel's size, pixels averaged where it shrinks."""
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def heatmap_overlay(
    image: UInt8[np.ndarray, "H W 3"], heatmaps: tuple[bytes, ...]
) -> UInt8[np.ndarray, "H W 3"]:
    """The image in grey under the largest of the heatmaps; where that is 0 only the image shows.

    Args:
        image: RGB.
        heatmaps: 8-bit PNGs of any size, at least one.
    """
    height, width = image.shape[:2]
    maps = [
        np.asarray(
            Image.fromarray(decode_png(data)).resize((width, height), Image.Resampling.BICUBIC)
        )
        for data in heatmaps
    ]
    heat = np.maximum.reduce(maps).astype(np.float32) / 255
    colours = matplotlib.colormaps[COLOUR_MAP](heat)[..., :3] * 255
    grey = np.repeat(_luminance(image)[..., None] * 0.75 + 30, 3, axis=2)
    opacity = (0.9 * np.sqrt(heat))[..., None]
    return _bytes(grey * (1 - opacity) + colours * opacity)


def mask_overlay(
    image: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The image dark and grey, every class in its VOC colour with a white contour, ignore pale."""
    height, width = image.shape[:2]
    resized = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    values = np.asarray(resized)
    palette = voc_palette().copy()
    palette[IGNORE] = IGNORE_COLOUR
    grey = np.repeat(_luminance(image)[..., None] * 0.42 + 12, 3, axis=2)
    painted = (values != BACKGROUND)[..., None]
    mixed = grey * (1 - _MASK_OPACITY) + palette[values] * _MASK_OPACITY
    result = np.where(painted, mixed, grey)
    classes = np.where(values == IGNORE, BACKGROUND, values)
    result[_contour(classes)] = 255
    return _bytes(result)


def _contour(values: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels of either side of every border between two values."""
    edge = np.zeros(values.shape, bool)
    across = values[:, 1:] != values[:, :-1]
    down = values[1:] != values[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def _luminance(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    """ITU-R BT.601."""
    return image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _bytes(values: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    return np.rint(values.clip(0, 255)).astype(np.uint8)
