"""The three pictures of a sample, side by side on a sheet: image, heatmap, mask."""

from __future__ import annotations

import colorsys

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.shards.arrays import decode_png

COLOUR_MAP = "inferno"
"""Evenly brighter with the value, so that it also reads without colour."""

CLASS_COLOURS = (
    "#ff004b", "#00ff87", "#ffe100", "#c300ff", "#e1a5ff", "#00f0ff", "#e1f087", "#c34b78",
    "#ff1e00", "#2d8700", "#ff8700", "#a54be1", "#ff00a5", "#0fb4ff", "#ff8769", "#4bc387",
    "#967800", "#00ff00", "#b4ff3c", "#0f78ff",
)  # fmt: skip
"""Colours of classes 1 to 20 in pictures and pages, where they have none of their own.

Exports have VOC's palette. In that the car is as grey as the picture below it, and some classes
differ by how dark they are alone, as parts of a picture do. These are far from grey and from each
other.
"""

IGNORE_COLOUR = (235, 235, 235)
SHADE = (98, 98, 98)
"""Grey of the image below a mask, for legends."""
_MASK_OPACITY = 0.66


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
        heatmaps: 8-bit PNGs of any size; none where no class was asked for.
    """
    height, width = image.shape[:2]
    maps = [
        np.asarray(
            Image.fromarray(decode_png(data)).resize((width, height), Image.Resampling.BICUBIC)
        )
        for data in heatmaps
    ]
    nothing = np.zeros((height, width), np.uint8)
    heat = np.maximum.reduce([nothing, *maps]).astype(np.float32) / 255
    colours = matplotlib.colormaps[COLOUR_MAP](heat)[..., :3] * 255
    grey = np.repeat(_luminance(image)[..., None] * 0.75 + 30, 3, axis=2)
    opacity = (0.9 * np.sqrt(heat))[..., None]
    return _bytes(grey * (1 - opacity) + colours * opacity)


def class_colours(classes: ClassSet) -> UInt8[np.ndarray, "256 3"]:
    """RGB of each label in pictures and pages: the class's own colour, else one far from grey."""
    colours = np.zeros((256, 3), np.uint8)
    for entry in classes.classes:
        colours[entry.id] = tuple(bytes.fromhex((entry.colour or _colour_of(entry.id))[1:]))
    colours[IGNORE] = IGNORE_COLOUR
    return colours


def _colour_of(class_id: int) -> str:
    if class_id <= len(CLASS_COLOURS):
        return CLASS_COLOURS[class_id - 1]
    # steps of the golden ratio never come near a hue that they had shortly before
    hue, value = class_id * 0.618034 % 1, (1.0, 0.8)[class_id % 2]
    return matplotlib.colors.to_hex(colorsys.hsv_to_rgb(hue, (1.0, 0.6)[class_id // 2 % 2], value))


def mask_overlay(
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "h w"],
    colours: UInt8[np.ndarray, "256 3"],
) -> UInt8[np.ndarray, "H W 3"]:
    """The image in grey under its masks: a class in its colour with a white line, ignore pale.

    Args:
        image: RGB.
        labels: of the image, at any size.
        colours: of the labels, as `class_colours` gives them.
    """
    height, width = image.shape[:2]
    resized = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    values = np.asarray(resized)
    grey = np.repeat(_luminance(image)[..., None] * 0.6 + 12, 3, axis=2)
    painted = (values != BACKGROUND)[..., None]
    mixed = grey * (1 - _MASK_OPACITY) + colours[values] * _MASK_OPACITY
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
