"""Pictures of a comparison, in the manner of the paper's figures S3, S4 and S5.

The pictures shown are told by class and key and not by how good they look.
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
from ovamgen.evaluate.comparison import Comparison, Line, figure_pictures
from ovamgen.evaluate.judging import picture_mask
from ovamgen.evaluate.plots import COLOURS, STYLE, Curve, plot_miou_over_tau, save_figure
from ovamgen.masks.iou import count_pixels
from ovamgen.pictures.picture_set import Picture
from ovamgen.report.panels import COLOUR_MAP, fit, heatmap_overlay
from ovamgen.shards.arrays import encode_png

SHOWN = 8
"""Pictures in a figure."""
_BLOCKS = 2
"""Pictures beside each other."""
_PANEL_INCHES = 1.25
_SIDE_PX = 192
_DPI = 115
_OUTLINE = (255, 140, 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Panel:
    pixels: UInt8[np.ndarray, "H W 3"] | None
    """None where there is nothing to show."""
    caption: str = ""


def write_figures(found: Comparison, out: Path, title: str) -> list[str]:
    """Writes all figures as PNG and PDF; returns their names without ending.

    ``miou_over_tau``; for each preset ``maps-PRESET`` (S3: image, word map, token map) and
    ``masks-PRESET`` (S4, S5: image, truth, word mask, token mask).

    Raises:
        ConfigError: they cannot be written.
    """
    names = ["miou_over_tau"]
    plot_miou_over_tau(_curves(found), f"mIoU over the threshold: {title}", out / names[0])
    pictures = figure_pictures(found, SHOWN)
    by_preset: dict[str, list[Line]] = {}
    for line in found.lines:
        by_preset.setdefault(line.setup.config.masks.preset, []).append(line)
    for preset, lines in by_preset.items():
        method = lines[0].setup.method
        heads = [line.setup.tokens.removesuffix(" pairs") for line in lines]
        rows = [_maps(found, lines, picture) for picture in pictures]
        name = f"maps-{preset}"
        _grid(rows, pictures, ["image", *heads], f"{method}: heatmaps", out / name, bar=True)
        names.append(name)
        rows = [_masks(found, lines, picture) for picture in pictures]
        truth = "exact mask" if found.pictures.kind == "voc" else "annotation"
        taus = [f"{h}, τ {line.tuned.tau:g}" for h, line in zip(heads, lines, strict=True)]
        name = f"masks-{preset}"
        title = f"{method}: masks, with IoU × 100"
        _grid(rows, pictures, ["image", truth, *taus], title, out / name)
        names.append(name)
    return names


def _curves(found: Comparison) -> list[Curve]:
    presets = list(dict.fromkeys(line.setup.config.masks.preset for line in found.lines))
    return [
        Curve(
            label=f"{line.setup.config.masks.preset}, {line.setup.tokens}",
            miou=line.fixed.mious(),
            colour=COLOURS[presets.index(line.setup.config.masks.preset) % len(COLOURS)],
            dashed=line.setup.words,
            tau=line.fixed.tau,
        )
        for line in found.lines
    ]


def _maps(found: Comparison, lines: Sequence[Line], picture: Picture) -> list[_Panel]:
    image = _enlarged(found.pictures.image(picture))
    panels = [_Panel(image)]
    for line in lines:
        shown = picture_mask(found.pictures, line.setup, found.recordings, picture, line.tuned.tau)
        if shown is None:
            panels.append(_Panel(None, "no map"))
            continue
        heat = np.rint(shown[0] * 255).astype(np.uint8)
        panels.append(_Panel(heatmap_overlay(image, (encode_png(heat),))))
    return panels


def _masks(found: Comparison, lines: Sequence[Line], picture: Picture) -> list[_Panel]:
    image = _enlarged(found.pictures.image(picture))
    truth = found.pictures.truth(picture)
    class_id = picture.targets[0].entry.id
    panels = [_Panel(image), _Panel(cut_out(image, truth == class_id, truth == IGNORE))]
    for line in lines:
        shown = picture_mask(found.pictures, line.setup, found.recordings, picture, line.tuned.tau)
        if shown is None:
            panels.append(_Panel(None, "no map"))
            continue
        hits, union = count_pixels(shown[1], truth, class_id)
        caption = f"{100 * hits / union:.0f}" if union else "–"
        panels.append(_Panel(cut_out(image, shown[1]), caption))
    return panels


def _grid(
    rows: Sequence[Sequence[_Panel]],
    pictures: Sequence[Picture],
    columns: Sequence[str],
    title: str,
    path: Path,
    *,
    bar: bool = False,
) -> None:
    """Rows of panels in blocks beside each other, each with its class; a colour bar below."""
    width = len(columns)
    deep = -(-len(rows) // _BLOCKS)
    blocks = min(_BLOCKS, len(rows))
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


def _show(axes: Axes, panel: _Panel) -> None:
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
