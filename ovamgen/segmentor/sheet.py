"""A page of pictures with their true and predicted label maps, in the set's colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import palette_of

_PAPER, _INK, _SOFT = "#ffffff", "#1a1a1a", "#6b6b6b"
_MARGIN, _GUTTER, _GAP, _PANEL_PX, _CAPTION_PX, _HEADER_PX = 40, 36, 4, 144, 44, 112
_COLUMNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One picture of the page."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    truth: UInt8[np.ndarray, "H W"]
    predicted: UInt8[np.ndarray, "H W"]


def draw_sheet(shown: Sequence[Shown], classes: ClassSet, *, title: str, note: str) -> bytes:
    """A PNG: of each picture the image, the truth and the prediction, with the classes' names.

    Args:
        shown: at least one.
        classes: of the label maps.
        title: first line.
        note: second line.
    """
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    card = 3 * _PANEL_PX + 2 * _GAP, _PANEL_PX + _CAPTION_PX
    sheet = Image.new(
        "RGB",
        (
            2 * _MARGIN + columns * card[0] + (columns - 1) * _GUTTER,
            _HEADER_PX + rows * card[1] + _MARGIN // 2,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    palette = palette_of(classes)
    draw.text((_MARGIN, 22), title, _INK, _font(22, "Bold"))
    draw.text((_MARGIN, 54), note, _SOFT, _font(13))
    for number, picture in enumerate(shown):
        x = _MARGIN + number % columns * (card[0] + _GUTTER)
        y = _HEADER_PX + number // columns * card[1]
        panels = (
            picture.image,
            palette[picture.truth],
            palette[picture.predicted],
        )
        for place, (heading, panel) in enumerate(
            zip(("image", "truth", "prediction"), panels, strict=True)
        ):
            left = x + place * (_PANEL_PX + _GAP)
            if number < columns:
                draw.text((left, y - 6), heading, _SOFT, _font(12), anchor="ls")
            smooth = Image.Resampling.LANCZOS if place == 0 else Image.Resampling.NEAREST
            sheet.paste(_fit(panel, smooth), (left, y))
        _draw_names(draw, (x, y + _PANEL_PX + 6), picture, card[0], classes)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _fit(pixels: UInt8[np.ndarray, "H W 3"], resample: Image.Resampling) -> Image.Image:
    """The picture in a square panel, whole, on white."""
    picture = Image.fromarray(pixels)
    scale = _PANEL_PX / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    panel = Image.new("RGB", (_PANEL_PX, _PANEL_PX), _PAPER)
    inset = (_PANEL_PX - width) // 2, (_PANEL_PX - height) // 2
    panel.paste(picture.resize((width, height), resample), inset)
    return panel


def _draw_names(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    picture: Shown,
    width: int,
    classes: ClassSet,
) -> None:
    """A swatch and the name of every class in the truth or the prediction, and in which of them."""
    x, y = corner
    right, font, palette = x + width, _font(12), palette_of(classes)
    true, predicted = (set(np.unique(m).tolist()) for m in (picture.truth, picture.predicted))
    for class_id in sorted((true | predicted) - {BACKGROUND, IGNORE}):
        name = classes.by_id(class_id).name
        if class_id not in true:
            name += " (predicted only)"
        elif class_id not in predicted:
            name += " (missed)"
        length = 16 + font.getlength(name)
        if x + length > right:
            draw.text((x, y + 7), "…", _SOFT, font, anchor="lm")
            return
        colour = tuple(palette[class_id].tolist())
        draw.rectangle((x, y + 2, x + 10, y + 12), fill=colour, outline=_SOFT)
        draw.text((x + 15, y + 7), name, _INK if class_id in true else _SOFT, font, anchor="lm")
        x = round(x + length + 14)


@lru_cache(maxsize=8)
def _font(size: int, weight: str = "") -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along, so that every machine draws the same."""
    name = f"DejaVuSans{f'-{weight}' if weight else ''}.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size)
