"""Pictures of a comparison: curves over the threshold, heatmaps and masks of some pictures.

The pictures shown are told by class and key and not by how good they look.
"""

from __future__ import annotations

from pathlib import Path

from ovamgen.evaluate.comparison import Comparison, Line, figure_pictures
from ovamgen.evaluate.panel_grid import (
    Shown,
    heatmap_panels,
    image_panels,
    mask_panels,
    write_grid,
)
from ovamgen.evaluate.plots import COLOURS, Curve, plot_miou_over_tau

SHOWN = 8
"""Pictures in a figure."""
_BLOCKS = 2
"""Pictures beside each other."""


def write_figures(found: Comparison, out: Path, title: str) -> list[str]:
    """Writes all figures as PNG and PDF; returns their names without ending.

    ``miou_over_tau``; for each preset ``maps-PRESET`` (image, word map, token map) and
    ``masks-PRESET`` (image, truth, word mask, token mask), at the tuned thresholds.

    Raises:
        ConfigError: they cannot be written.
    """
    names = ["miou_over_tau"]
    plot_miou_over_tau(_curves(found), f"mIoU over the threshold: {title}", out / names[0])
    pictures = figure_pictures(found.reported, SHOWN)
    by_preset: dict[str, list[Line]] = {}
    for line in found.lines:
        by_preset.setdefault(line.setup.preset, []).append(line)
    for preset, lines in by_preset.items():
        method = lines[0].setup.method
        shown = [Shown(setup=line.setup, tau=line.tuned.tau) for line in lines]
        asked = found.pictures, found.recordings, shown
        name = f"maps-{preset}"
        write_grid(
            [heatmap_panels(*asked, picture) for picture in pictures],
            pictures,
            ["image", *(one.label for one in shown)],
            f"{method}: heatmaps",
            out / name,
            blocks=_BLOCKS,
            bar=True,
        )
        names.append(name)
        truth = "exact mask" if found.pictures.kind == "voc" else "annotation"
        name = f"masks-{preset}"
        write_grid(
            [
                [
                    *image_panels(found.pictures, picture, truth=True),
                    *mask_panels(*asked, picture),
                ]
                for picture in pictures
            ],
            pictures,
            ["image", truth, *(f"{one.label}, τ {one.tau:g}" for one in shown)],
            f"{method}: masks, with IoU × 100",
            out / name,
            blocks=_BLOCKS,
        )
        names.append(name)
    return names


def _curves(found: Comparison) -> list[Curve]:
    presets = list(dict.fromkeys(line.setup.preset for line in found.lines))
    return [
        Curve(
            label=f"{line.setup.preset}, {line.setup.tokens}",
            miou=line.fixed.mious(),
            colour=COLOURS[presets.index(line.setup.preset) % len(COLOURS)],
            dashed=line.setup.words,
            tau=line.fixed.tau,
        )
        for line in found.lines
    ]
