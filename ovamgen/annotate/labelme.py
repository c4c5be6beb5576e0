"""Masks out of labelme's JSON files: polygons, rectangles and circles, drawn as labelme draws them.

The format is that of https://github.com/wkentaro/labelme (5.x): ``imageHeight``, ``imageWidth`` and
``shapes`` with ``label``, ``shape_type`` and ``points`` in (x, y) pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import ConfigError
from ovamgen.storage.plain_json import load_plain_json

Point = tuple[float, float]
_LARGEST_COORDINATE_PX = 1e6
_SHAPES = {"polygon": "3 or more", "rectangle": "2", "circle": "2"}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelmeMask:
    """What a file's shapes make, and what of them was not asked for."""

    mask: Bool[np.ndarray, "H W"]
    left_out: tuple[str, ...]
    """Labels of the shapes that are not in the mask."""


def labelme_mask(
    data: bytes,
    size: tuple[int, int],
    name: str,
    *,
    class_name: str,
    known: ClassSet,
    label: str | None = None,
    classes: Mapping[str, str] = MappingProxyType({}),
) -> LabelmeMask:
    """The union of a file's shapes that show the sample's class.

    Args:
        data: The file's bytes.
        size: Height and width of the picture, in pixels.
        name: What to call the file in errors.
        class_name: The sample's class; a shape shows it whose label is one of its names.
        known: The classes that it is one of, under all their names.
        label: Takes the shapes of this label instead.
        classes: The class by label, for labels that are no name of it.

    Raises:
        ConfigError: not labelme's format, another size, no shape of the class, a kind of shape
            that is no area.
    """
    content = _content(data, name)
    came = content.get("imageHeight"), content.get("imageWidth")
    if came != size:
        raise ConfigError(
            f"{name} must be about {size[0]}x{size[1]} pixels (height x width) as its image is, "
            f"its imageHeight and imageWidth say {came[0]}x{came[1]}"
        )
    shapes = content["shapes"]
    labels = sorted({str(shape.get("label")) for shape in shapes})
    if not labels:
        raise ConfigError(f"{name} must have a shape, it has none: outline the {class_name}")
    if label is None:
        wanted = [text for text in labels if _means(known, classes.get(text, text), class_name)]
    else:
        wanted = [text for text in labels if text == label]
    if not wanted:
        raise ConfigError(
            f"{name} must have shapes of the label '{label or class_name}', it has "
            f"{', '.join(labels[:5])}: say which are meant with --label {labels[0]}, or with "
            f"--map {labels[0]}={class_name}"
        )
    canvas = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(canvas)
    for shape in shapes:
        if str(shape.get("label")) in wanted:
            _draw(draw, shape, name)
    left_out = tuple(text for text in labels if text not in wanted)
    return LabelmeMask(mask=np.asarray(canvas), left_out=left_out)


def _content(data: bytes, name: str) -> dict[str, Any]:
    try:
        content = load_plain_json(data)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} must be labelme's JSON, it cannot be read: {error}") from None
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise ConfigError(f"{name} must be labelme's JSON, it has no list 'shapes'")
    return content


def _means(classes: ClassSet, text: str, class_name: str) -> bool:
    try:
        return classes.by_name(text) == classes.by_name(class_name)
    except ConfigError:
        return False


def _draw(draw: ImageDraw.ImageDraw, shape: dict[str, Any], name: str) -> None:
    kind = str(shape.get("shape_type") or "polygon")
    if kind not in _SHAPES:
        raise ConfigError(
            f"{name} has a {kind!r:.40}, which is no area here: use {', '.join(_SHAPES)}, or "
            "export the mask as a PNG"
        )
    points = _points(shape.get("points"), name, kind)
    if kind == "polygon":
        draw.polygon(points, fill=1, outline=1)
    elif kind == "rectangle":
        draw.rectangle(_box(points), fill=1, outline=1)
    else:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)


def _points(value: object, name: str, kind: str) -> list[Point]:
    points = [
        (float(point[0]), float(point[1]))
        for point in (value if isinstance(value, list) else ())
        if isinstance(point, list)
        and len(point) == 2
        and all(isinstance(number, int | float) for number in point)
        and all(abs(number) <= _LARGEST_COORDINATE_PX for number in point)
    ]
    whole = isinstance(value, list) and len(points) == len(value)
    if not whole or (len(points) < 3 if kind == "polygon" else len(points) != 2):
        raise ConfigError(f"{name}: a {kind} must have {_SHAPES[kind]} points (x, y) in pixels")
    return points


def _box(points: list[Point]) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = points
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
