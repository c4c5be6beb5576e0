"""Grids of small pictures: images beside heatmaps and masks, class by class.

What is drawn is told by its caller; how good it looks plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from ovamgen.classes.class_entry import IGNORE
from ovamgen.evaluate.judging import picture_mask
from ovamgen.evaluate.plots import STYLE, save_figure
from ovamgen.evaluate.recording import Recordings
from ovamgen.evaluate.setups import Setup
from ovamgen.masks.iou import count_pixels
from ovamgen.pictures.picture_set import Picture, PictureSet
from ovamgen.report.panels import COLOUR_MAP, fit, heatmap_overlay
from ovamgen.shards.arrays import encode_png

_PANEL_INCHES = 1.25
_SIDE_PX = 192
_DPI = 115
_OUTLINE = (255, 140, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One small picture."""

    pixels: UInt8[np.ndarray, "H W 3"] | None
    """None where there is nothing to show."""
    caption: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Shown:
    """A setup whose maps are shown, and the threshold of its masks."""

    setup: Setup
    tau: float

    @property
    def label(self) -> str:
        """What stands above its column."""
        return self.setup.tokens.removesuffix(" pairs")


def heatmap_panels(
    pictures: PictureSet, recordings: Recordings, shown: Sequence[Shown], picture: Picture
) -> list[Panel]:
    """The image, then the map of its first class by each setup, laid over it."""
    image = _enlarged(pictures.image(picture))
    panels = [Panel(image)]
    for one in shown:
        found = picture_mask(pictures, one.setup, recordings, picture, one.tau)
        if found is None:
            panels.append(Panel(None, "no map"))
            continue
        heat = np.rint(found[0] * 255).astype(np.uint8)
        panels.append(Panel(heatmap_overlay(image, (encode_png(heat),))))
    return panels


def mask_panels(
    pictures: PictureSet, recordings: Recordings, shown: Sequence[Shown], picture: Picture
) -> list[Panel]:
    """The image cut out by the mask of its first class by each setup, with IoU × 100."""
    image = _enlarged(pictures.image(picture))
    truth = pictures.truth(picture)
    class_id = picture.targets[0].entry.id
    panels = []
    for one in shown:
        found = picture_mask(pictures, one.setup, recordings, picture, one.tau)
        if found is None:
            panels.append(Panel(None, "no map"))
            continue
        hits, union = count_pixels(found[1], truth, class_id)
        caption = f"{100 * hits / union:.0f}" if union else "–"
        panels.append(Panel(cut_out(image, found[1]), caption))
    return panels


def image_panels(pictures: PictureSet, picture: Picture, *, truth: bool) -> list[Panel]:
    """The image, and where asked for the image cut out by the true mask of its first class."""
    image = _enlarged(pictures.image(picture))
    panels = [Panel(image)]
    if truth:
        labels = pictures.truth(picture)
        class_id = picture.targets[0].entry.id
        panels.append(Panel(cut_out(image, labels == class_id, labels == IGNORE)))
    return panels


def write_grid(
    rows: Sequence[Sequence[Panel]],
    pictures: Sequence[Picture],
    columns: Sequence[str],
    title: str,
    path: Path,
    *,
    blocks: int,
    bar: bool = False,
) -> None:
    """Writes rows of panels in blocks beside each other as ``path.png`` and ``path.pdf``.

    Args:
        rows: panels of each picture.
        pictures: named by their first class, at the left of each row.
        columns: heads of a block's columns.
        title: above all.
        path: without ending.
        blocks: at most so many beside each other.
        bar: a colour bar of heatmaps below.

    Raises:
        ConfigError: they cannot be written.
    """
    width = len(columns)
    blocks = min(blocks, len(rows))
    deep = -(-len(rows) // blocks)
    # a slim column parts the blocks
    ratios = ([1.0] * width + [0.16]) * blocks
    tallest = max(picture.height / picture.width for picture in pictures)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(
            figsize=(
                _PANEL_INCHES * sum(ratios),
                (_PANEL_INCHES * tallest + 0.05) * deep + 0.5 + 0.5 * bar,
            ),
            layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0),
        )
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        grid = figure.add_gridspec(deep, len(ratios), width_ratios=ratios)
        for number, panels in enumerate(rows):
            block, row = number // deep, number % deep
            for column, panel in enumerate(panels):
                axes = figure.add_subplot(grid[row, block * (width + 1) + column])
                _show(axes, panel)
                if row == 0:
                    axes.set_title(columns[column], fontsize=8, color="#555555")
                if column == 0:
                    axes.set_ylabel(pictures[number].targets[0].entry.phrase, fontsize=9)
        if bar:
            _legend(figure)
        save_figure(figure, path, dpi=_DPI)


def _show(axes: Axes, panel: Panel) -> None:
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    if panel.pixels is None:
        axes.set_facecolor("#f2f2f2")
        axes.set_box_aspect(1)
        axes.text(
            0.5, 0.5, panel.caption, transform=axes.transAxes, ha="center", va="center", fontsize=8
        )
        return
    axes.imshow(panel.pixels, interpolation="antialiased")
    if panel.caption:
        axes.text(
            0.97,
            0.04,
            panel.caption,
            transform=axes.transAxes,
            ha="right",
            va="bottom",
            fontsize=9,
            fontweight="bold",
            color="white",
            bbox={"facecolor": "black", "alpha": 0.55, "pad": 1.5, "edgecolor": "none"},
        )


def _legend(figure: Figure) -> None:
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), COLOUR_MAP),
        ax=figure.axes,
        orientation="horizontal",
        fraction=0.015,
        pad=0.01,
        aspect=60,
        shrink=0.35,
    )
    bar.set_label("score: attention by the class, normalised", fontsize=7, color="#555555")
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def cut_out(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "h w"],
    unknown: Bool[np.ndarray, "h w"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """The image in colour inside the mask, dark and grey outside; what nobody knows is white."""
    size = image.shape[1], image.shape[0]
    inside = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) * 0.3 + 10
    result = np.where(inside[..., None], image, grey[..., None].astype(np.uint8))
    if unknown is not None and unknown.any():
        blank = np.asarray(Image.fromarray(unknown).resize(size, Image.Resampling.NEAREST))
        result[blank] = 240
    padded = np.pad(inside, 1, mode="edge")
    same = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
    result[inside & ~np.logical_and.reduce(same)] = _OUTLINE
    return result


def _enlarged(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture at a size at which overlays of small maps look smooth."""
    height, width = image.shape[:2]
    scale = max(1.0, _SIDE_PX / min(height, width))
    return fit(image, round(height * scale), round(width * scale))
