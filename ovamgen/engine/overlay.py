"""A picture of one image beside its heatmaps, for people to look at."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

_COLUMNS = 6
_PANEL_INCHES = 2.2
_DOTS_PER_INCH = 110
_COLOUR_MAP = "inferno"
_LEGEND = (
    "each map over a range of its own: its ends stand\n"
    "above the map, in percent of the largest that could be"
)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One map and what it is of."""

    label: str
    heatmap: Float32[np.ndarray, "h w"]


def write_overlay(
    file: BinaryIO,
    title: str,
    image: Float32[np.ndarray, "H W 3"],
    panels: Sequence[Panel],
    maximum: int,
) -> None:
    """Writes a PNG: the image, then each map in colour over the greyed image, and a colour bar.

    Colours span each map's own range, which its label gives in percent of `maximum`: raw maps
    differ by little around a large mean.

    Args:
        file: open for writing.
        title: the generation prompt.
        image: in [0, 1].
        panels: the maps, in the order in which they are shown.
        maximum: the largest value that a map could have.
    """
    columns = min(_COLUMNS, len(panels) + 1)
    rows = math.ceil((len(panels) + 1) / columns)
    height, width = image.shape[:2]
    panel_height = _PANEL_INCHES * height / width
    figure = Figure(
        figsize=(_PANEL_INCHES * columns, (panel_height + 0.45) * rows + 0.9),
        dpi=_DOTS_PER_INCH,
        layout="constrained",
    )
    figure.suptitle(
        _printable(textwrap.shorten(title, 26 * columns)), fontsize=10, parse_math=False
    )
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(image)
    axes[0].set_title("image", fontsize=8)
    grey = image.mean(axis=2)
    for axis, panel in zip(axes[1:], panels, strict=False):
        low, high = float(panel.heatmap.min()), float(panel.heatmap.max())
        axis.imshow(grey, cmap="gray", vmin=0, vmax=1)
        axis.imshow(
            panel.heatmap,
            cmap=_COLOUR_MAP,
            alpha=0.7,
            interpolation="bilinear",
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
        span = f"{100 * low / maximum:.1f}-{100 * high / maximum:.1f} %"
        axis.set_title(f"{_printable(panel.label)}\n{span}", fontsize=8, parse_math=False)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _COLOUR_MAP),
        ax=list(axes),
        location="bottom",
        fraction=0.05 / rows,
        aspect=40,
        shrink=min(1.0, 3 / columns),
    )
    bar.set_ticks([0, 1], labels=["lowest", "highest"])
    bar.ax.tick_params(labelsize=8)
    bar.set_label(_LEGEND, fontsize=8)
    bar.outline.set_visible(False)
    figure.savefig(file, format="png", metadata={"Software": None})


def _printable(text: str) -> str:
    """The text with a question mark for what the font cannot draw, which would be warned about."""
    font = get_font(findfont("DejaVu Sans"))
    return "".join(c if c == "\n" or font.get_char_index(ord(c)) else "?" for c in text)
