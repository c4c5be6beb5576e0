"""The contact sheet of a run: a page of samples with their heatmaps and masks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from ovamgen.classes.class_entry import IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.console.log_format import printable
from ovamgen.records import ShardRecord
from ovamgen.report.panels import (
    COLOUR_MAP,
    IGNORE_COLOUR,
    SHADE,
    class_colours,
    fit,
    heatmap_overlay,
    mask_overlay,
)
from ovamgen.report.selection import ShownSample, choose_samples
from ovamgen.storage.interface import Store

MAX_BYTES = 1_500_000

_PAPER, _INK, _SOFT, _LINE = "#ffffff", "#1a1a1a", "#6b6b6b", "#dddddd"
_MARGIN, _GUTTER, _GAP = 44, 44, 6
_PANEL_PX = 168
_CAPTION_PX = 64
_HEADINGS = ("image", "heatmap", "mask")
_MOST_CHARACTERS = 300
"""Characters of a line before it is cut to its room: layout takes the square of its length."""


def contact_sheet(
    store: Store,
    records: Sequence[ShardRecord],
    classes: ClassSet,
    *,
    columns: int = 2,
    rows: int = 6,
    title: str = "Contact sheet",
    note: str = "",
) -> Image.Image:
    """The sheet: for each sample its image, its heatmap and its mask, with classes and prompt.

    The choice of samples is deterministic and goes round the classes (`choose_samples`). The
    heatmap shown is the largest of the targets' maps, each relative to its own maximum.

    Args:
        store: of the run.
        records: of the shards to choose from.
        classes: of the masks.
        columns: samples beside each other.
        rows: samples below each other, at most.
        title: first line.
        note: second line.

    Where the safety checker flagged every sample, the sheet says so and shows none.

    Raises:
        ShardError: a shard is damaged.
    """
    shown = choose_samples(store, records, columns * rows)
    if not shown:
        note = "no sample may be shown: the safety checker flagged all of them"
    columns = max(1, min(columns, len(shown)))
    rows = -(-len(shown) // columns)
    panel_height = _panel_height(shown[0]) if shown else 0
    card = (3 * _PANEL_PX + 2 * _GAP, panel_height + _CAPTION_PX)
    header = 148 if note else 124
    sheet = Image.new(
        "RGB",
        (
            2 * _MARGIN + columns * card[0] + (columns - 1) * _GUTTER,
            header + rows * card[1] + (rows - 1) * 14 + _MARGIN // 2,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    colours = class_colours(classes)
    _draw_header(sheet, draw, title, note)
    if shown:
        _draw_legend(draw, header - 46, shown, colours)
    for number, sample in enumerate(shown):
        column, row = number % columns, number // columns
        corner = (_MARGIN + column * (card[0] + _GUTTER), header + row * (card[1] + 14))
        if row == 0:
            _draw_headings(draw, corner)
        _draw_sample(sheet, draw, corner, sample, panel_height, colours)
    return sheet


def encode_sheet(sheet: Image.Image, max_bytes: int = MAX_BYTES) -> bytes:
    """A PNG of at most so many bytes, if need be of a smaller picture; colours stay exact."""
    data = _png(sheet)
    scale = 1.0
    while len(data) > max_bytes and scale > 0.1:
        scale *= 0.9
        size = (round(sheet.width * scale), round(sheet.height * scale))
        data = _png(sheet.resize(size, Image.Resampling.LANCZOS))
    return data


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # "optimize" would take ten times as long for a file that is a twentieth smaller
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _panel_height(shown: ShownSample) -> int:
    height, width = shown.sample.labels.shape
    return max(1, round(_PANEL_PX * height / width))


def _fitted(shown: ShownSample, panel_height: int) -> tuple[int, int]:
    """(height, width) of the sample in a panel that another one's shape may have decided."""
    if _panel_height(shown) == panel_height:
        return panel_height, _PANEL_PX
    height, width = shown.sample.labels.shape
    scale = min(panel_height / height, _PANEL_PX / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _draw_header(sheet: Image.Image, draw: ImageDraw.ImageDraw, title: str, note: str) -> None:
    right = sheet.width - _MARGIN
    bar = (right - 190, 34, right - 40, 46)
    room = bar[0] - _MARGIN - 30
    draw.text((_MARGIN, 26), _shorten(title, _font(24, "Bold"), room), _INK, _font(24, "Bold"))
    if note:
        draw.text((_MARGIN, 62), _shorten(note, _font(14), room), _SOFT, _font(14))
    ramp = np.linspace(0, 1, bar[2] - bar[0])[None].repeat(bar[3] - bar[1], axis=0)
    colours = (matplotlib.colormaps[COLOUR_MAP](ramp)[..., :3] * 255).astype(np.uint8)
    sheet.paste(Image.fromarray(colours), bar[:2])
    draw.text((bar[0] - 8, 40), "0", _SOFT, _font(12), anchor="rm")
    draw.text((bar[2] + 8, 40), "max", _SOFT, _font(12), anchor="lm")
    middle = (bar[0] + bar[2]) // 2
    draw.text((middle, 52), "attention to the class", _SOFT, _font(12), anchor="ma")


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    top: int,
    shown: Sequence[ShownSample],
    colours: UInt8[np.ndarray, "256 3"],
) -> None:
    """What a mask's picture says, in the colours of the first class that is shown."""
    first = (sample.sample.metadata["class_ids"][0] for sample in shown)
    colour = _rgb(colours[next((class_id for class_id in first if class_id), 0)])
    entries = [
        (colour, colour, "mask, coloured by class"),
        (colour, SHADE, "its edge"),
        (SHADE, SHADE, "background"),
    ]
    if any((sample.sample.labels == IGNORE).any() for sample in shown):
        entries.append((IGNORE_COLOUR, IGNORE_COLOUR, "left out of training"))
    x = _MARGIN
    for left, right, text in entries:
        draw.rectangle((x, top, x + 16, top + 12), left, _SOFT)
        if left != right:
            draw.rectangle((x + 8, top + 1, x + 15, top + 11), right)
            draw.rectangle((x + 7, top, x + 8, top + 12), "white")
        draw.text((x + 22, top + 6), text, _SOFT, _font(12), anchor="lm")
        x += round(22 + _font(12).getlength(text) + 14)


def _draw_headings(draw: ImageDraw.ImageDraw, corner: tuple[int, int]) -> None:
    for index, heading in enumerate(_HEADINGS):
        place = (corner[0] + index * (_PANEL_PX + _GAP), corner[1] - 8)
        draw.text(place, heading, _SOFT, _font(13), anchor="ls")


def _draw_sample(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    shown: ShownSample,
    panel_height: int,
    colours: UInt8[np.ndarray, "256 3"],
) -> None:
    sample = shown.sample
    height, width = _fitted(shown, panel_height)
    image = fit(sample.image, height, width)
    mask = mask_overlay(image, sample.labels, colours)
    panels = (image, heatmap_overlay(image, shown.previews), mask)
    for index, panel in enumerate(panels):
        left = corner[0] + index * (_PANEL_PX + _GAP) + (_PANEL_PX - width) // 2
        place = (left, corner[1] + (panel_height - height) // 2)
        sheet.paste(Image.fromarray(panel), place)
    _draw_classes(draw, (corner[0], corner[1] + panel_height + 10), shown, colours)
    room = 3 * _PANEL_PX + 2 * _GAP
    prompt = _line_of(str(sample.metadata["prompt"]))
    place = (corner[0], corner[1] + panel_height + 34)
    draw.text(place, _shorten(prompt, _font(13), room), _SOFT, _font(13))


def _draw_classes(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    shown: ShownSample,
    colours: UInt8[np.ndarray, "256 3"],
) -> None:
    """A swatch and the name of every target, with how much of the image its mask covers."""
    x, y = corner
    right = x + 3 * _PANEL_PX + 2 * _GAP
    metadata = shown.sample.metadata
    phrases = map(_line_of, metadata["phrases"])
    for class_id, phrase, area in zip(
        metadata["class_ids"], phrases, metadata["areas"], strict=True
    ):
        share = f"{area:.0%}" if area else "no mask"
        width = 22 + _font(14, "Bold").getlength(phrase) + 6 + _font(13).getlength(share)
        if x + width > right:
            draw.text((x, y + 8), "…", _SOFT, _font(14), anchor="lm")
            break
        fill = _rgb(colours[class_id])
        draw.rounded_rectangle((x, y + 1, x + 14, y + 15), 3, fill=fill, outline=_LINE)
        draw.text((x + 22, y + 8), phrase, _INK, _font(14, "Bold"), anchor="lm")
        after = x + 22 + _font(14, "Bold").getlength(phrase) + 6
        draw.text((after, y + 8), share, _SOFT, _font(13), anchor="lm")
        x = round(x + width + 20)


def _rgb(colour: UInt8[np.ndarray, " 3"]) -> tuple[int, int, int]:
    red, green, blue = colour.tolist()
    return red, green, blue


def _line_of(text: str) -> str:
    """The beginning of a text, in one line that can be drawn; a corpus may come from anybody."""
    return printable(" ".join(text[:_MOST_CHARACTERS].split()))


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, cut after a word and with an ellipsis where it is wider."""
    if font.getlength(text) <= width:
        return text
    words = text.split(" ")
    while len(words) > 1 and font.getlength(" ".join(words) + " …") > width:
        words.pop()
    line = " ".join(words)
    while line and font.getlength(line + " …") > width:
        line = line[:-1]
    return line + " …"


@lru_cache(maxsize=16)
def _font(size: int, weight: str = "") -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along, so that every machine draws the same."""
    name = f"DejaVuSans{f'-{weight}' if weight else ''}.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size)
