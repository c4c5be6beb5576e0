"""mIoU over the threshold, one curve a setup, as PNG and PDF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ovamgen.masks.iou import TAUS
from ovamgen.storage.whole_files import write_whole

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which people with any colour vision tell apart."""
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Curve:
    """The mIoU of one setup at each of `TAUS`."""

    label: str
    miou: Float64[np.ndarray, " T"]
    """Fractions."""
    colour: str
    dashed: bool = False
    tau: float
    """Where the setup's own threshold is marked."""
    low: Float64[np.ndarray, " T"] | None = None
    """Ends of a confidence band, where one is drawn."""
    high: Float64[np.ndarray, " T"] | None = None


def plot_miou_over_tau(curves: Sequence[Curve], title: str, path: Path) -> None:
    """Writes ``path.png`` and ``path.pdf``.

    Raises:
        ConfigError: they cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.8 if len(curves) > 1 else 6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            _draw(axes, curve)
        axes.set(xlabel="threshold τ", ylabel="foreground mIoU × 100", xlim=(0, 1), ylim=(0, None))
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        axes.set_xticks(np.linspace(0, 1, 11))
        if len(curves) > 1:
            figure.legend(loc="outside right center", fontsize=8, handlelength=2.4)
        note = "points: each setup's own threshold; without dense CRF"
        if any(curve.low is not None for curve in curves):
            note += "; band: 95 % bootstrap interval over pictures"
        figure.text(0.01, -0.01, note, fontsize=7, color="#555555", va="top")
        save_figure(figure, path)


def save_figure(figure: Figure, path: Path, *, dpi: int = 200) -> None:
    """Writes a figure as PNG and as PDF, without a date in either.

    Args:
        figure: any.
        path: without ending.
        dpi: of the PNG.

    Raises:
        ConfigError: they cannot be written.
    """
    FigureCanvasAgg(figure)
    for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, bbox_inches="tight", metadata=metadata, dpi=dpi)
        write_whole(path.with_name(f"{path.name}.{kind}"), buffer.getvalue(), make_folder=True)


def _draw(axes: Axes, curve: Curve) -> None:
    taus = np.array(TAUS)
    line = (0, (4, 2)) if curve.dashed else "-"
    axes.plot(
        taus, 100 * curve.miou, color=curve.colour, linestyle=line, linewidth=1.8, label=curve.label
    )
    if curve.low is not None and curve.high is not None:
        axes.fill_between(
            taus, 100 * curve.low, 100 * curve.high, color=curve.colour, alpha=0.15, linewidth=0
        )
    at = float(np.interp(curve.tau, taus, 100 * curve.miou))
    face = "white" if curve.dashed else curve.colour
    axes.plot([curve.tau], [at], marker="o", markersize=6, color=curve.colour, markerfacecolor=face)
