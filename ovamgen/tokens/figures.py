"""Pictures of token optimisation: loss curves as in figure S1, and one class before and after.

matplotlib figures in memory; `ovamgen.tokens.report` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from jaxtyping import Float32, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ovamgen.classes.class_set import ClassSet
from ovamgen.config import TOKEN_TAU, WORD_TAU
from ovamgen.report.panels import COLOUR_MAP, class_colours, heatmap_overlay, mask_overlay
from ovamgen.shards.arrays import encode_png
from ovamgen.tokens.examples import Example
from ovamgen.tokens.iou import scaled_map
from ovamgen.tokens.learning import ClassResult
from ovamgen.tokens.optimiser import OptimiserSettings

DOTS_PER_INCH = 150
# colours that stay apart for all kinds of colour vision (Okabe and Ito 2008), yellow left out as
# too pale for lines on white; with three line styles 21 curves can be told apart
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", (0, (5, 1.5)), (0, (1, 1)))
_INK, _SOFT, _GRID = "#1a1a1a", "#6b6b6b", "#e4e4e4"
_LOSS_NAMES = {
    "binary-cross-entropy": "binary cross-entropy",
    "cross-entropy": "cross-entropy with soft targets",
}
_LEAST_CROSS_ENTROPY = float(np.log1p(np.exp(-1)))
"""Loss of maps that are the annotation, in [0, 1], taken for logits (methods 2.5)."""


def loss_curves(
    results: Mapping[str, ClassResult], settings: OptimiserSettings, phrases: Mapping[str, str]
) -> Figure:
    """The loss before each step: (a) of every class, (b) their mean with its spread.

    Args:
        results: by class.
        settings: what they were learnt with.
        phrases: what the classes are called, by name.
    """
    figure = Figure(figsize=(11, 4.4), dpi=DOTS_PER_INCH, layout="constrained")
    every, mean = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    styles = [(colour, style) for style, colour in product(_STYLES, _COLOURS)]
    for index, (name, result) in enumerate(results.items()):
        colour, style = styles[index % len(styles)]
        label = phrases[name]
        steps = np.arange(len(result.losses))
        every.plot(steps, result.losses, color=colour, linestyle=style, lw=1.3, label=label)
    losses = np.stack([result.losses for result in results.values()])
    steps = np.arange(losses.shape[1])
    average, spread = losses.mean(axis=0), losses.std(axis=0)
    if len(losses) > 1:
        mean.fill_between(
            steps, losses.min(axis=0), losses.max(axis=0), color="#cfe3f1", lw=0, label="range"
        )
        mean.fill_between(
            steps,
            average - spread,
            average + spread,
            color="#7fb6da",
            lw=0,
            label="± standard deviation",
        )
    classes = f"{len(losses)} class{'es' * (len(losses) != 1)}"
    mean.plot(steps, average, color=_COLOURS[0], lw=2, label=f"mean of {classes}")
    for axes, title in ((every, "(a) every class"), (mean, f"(b) mean of {classes}")):
        _style(axes, title)
        axes.set_xlim(0, max(1, losses.shape[1] - 1))
        if settings.loss == "cross-entropy":
            label = f"attainable minimum {_LEAST_CROSS_ENTROPY:.4f}"
            axes.axhline(_LEAST_CROSS_ENTROPY, color=_SOFT, lw=1, ls=(0, (2, 2)), label=label)
    every.set_ylabel(_LOSS_NAMES[settings.loss], color=_INK)
    mean.legend(frameon=False, fontsize=9)
    figure.legend(
        *every.get_legend_handles_labels(),
        loc="outside right center",
        frameon=False,
        fontsize=8.5,
        handlelength=2.6,
    )
    return figure


def before_and_after(result: ClassResult, example: Example, classes: ClassSet) -> Figure:
    """One class on its first training picture: what the word finds, and what the pair has learnt.

    Image, annotation, the maps of word, initial pair and optimised pair, each divided by its own
    maximum, and the optimised map's mask at the published threshold.

    Args:
        result: of the class.
        example: the picture.
        classes: of which it is one.
    """
    entry, colours = classes.by_name(result.class_name), class_colours(classes)
    image, size = example.image, example.mask.shape
    scores = [scaled_map(raw, size) for raw in result.maps]
    panels: list[tuple[str, str, UInt8[np.ndarray, "H W 3"]]] = [
        ("image", "", image),
        ("annotation", "", mask_overlay(image, example.mask * np.uint8(entry.id), colours)),
        ("map of the word", _iou_text(result, 0), _overlay(image, scores[0])),
        ("map of the initial pair", _iou_text(result, 1), _overlay(image, scores[1])),
        ("map of the optimised pair", _iou_text(result, 2), _overlay(image, scores[2])),
        (
            f"its mask at {TOKEN_TAU:g}",
            "",
            mask_overlay(image, (scores[2] > TOKEN_TAU) * np.uint8(entry.id), colours),
        ),
    ]
    width = 2.15
    height = width * size[0] / size[1]
    figure = Figure(
        figsize=(width * len(panels) + 0.9, height + 1.0), dpi=DOTS_PER_INCH, layout="constrained"
    )
    axes = figure.subplots(1, len(panels))
    for axis, (title, note, picture) in zip(axes, panels, strict=True):
        axis.imshow(picture)
        axis.set_axis_off()
        axis.set_title(title, fontsize=10, color=_INK)
        axis.text(
            0.5, -0.04, note, transform=axis.transAxes, ha="center", va="top", fontsize=8.5,
            color=_SOFT, linespacing=1.35,
        )  # fmt: skip
    first, last = result.losses[0], result.losses.min()
    figure.suptitle(
        f"{entry.phrase}: loss {first:.3f} before, {last:.3f} after {result.best_step} steps",
        fontsize=12,
        fontweight="bold",
        color=_INK,
        x=0.01,
        ha="left",
    )
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), COLOUR_MAP),
        ax=list(axes),
        shrink=0.72,
        pad=0.008,
        aspect=18,
    )
    bar.set_ticks(
        [0, WORD_TAU, TOKEN_TAU, 1], labels=["0", f"{WORD_TAU:g}", f"{TOKEN_TAU:g}", "max"]
    )
    bar.ax.tick_params(labelsize=8, colors=_SOFT)
    bar.outline.set_visible(False)
    return figure


def _iou_text(result: ClassResult, kind: int) -> str:
    counts = result.training[kind]
    tau, best = counts.best()
    fixed = WORD_TAU if kind == 0 else TOKEN_TAU
    return f"IoU {counts.at(fixed):.2f} at {fixed:g}\nbest {best:.2f} at {tau:g}"


def _overlay(
    image: UInt8[np.ndarray, "H W 3"], scores: Float32[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    levels = np.rint(scores.clip(0, 1) * 255).astype(np.uint8)
    return heatmap_overlay(image, (encode_png(levels),))


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel("step", color=_INK)
    axes.grid(color=_GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_SOFT)
