"""``ovamgen evaluate figures``: every class in one picture, by words and by tokens.

In the manner of the supplementary's figures S3 (heatmaps) and S4 to S7 (masks of DAAM, OVAM,
Grounded Diffusion and DatasetDM). The picture of a class is the first one by key that shows it
alone; maps are recorded for these pictures and no others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ovamgen.console.progress import Progress
from ovamgen.errors import ConfigError
from ovamgen.evaluate.compare import HEAD_PRESETS, Build, CompareRequest, preset_setups
from ovamgen.evaluate.comparison import figure_pictures
from ovamgen.evaluate.panel_grid import (
    Panel,
    Shown,
    heatmap_panels,
    image_panels,
    mask_panels,
    write_grid,
)
from ovamgen.evaluate.recording import Recordings, record
from ovamgen.evaluate.setups import Setup
from ovamgen.pictures.picture_set import Picture, PictureSet

FIGURE_PRESETS = ("ovam-voc-sim", "daam-ovam")
"""Rows that need no head; `HEAD_PRESETS` are added where there is one."""
MOST_CLASSES = 40
_BLOCKS = 4
"""Classes beside each other."""
_NUMBERS = {
    ("heatmaps", "ovam"): "s3",
    ("masks", "daam-ovam"): "s4",
    ("masks", "ovam"): "s5",
    ("masks", "grounded"): "s6",
    ("masks", "datasetdm"): "s7",
}
"""The supplementary's figures by what they show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was drawn."""

    out: Path
    names: tuple[str, ...]
    """Names of the files, without ending."""
    pictures: tuple[Picture, ...]

    def lines(self) -> list[str]:
        """As text for people."""
        count = len(self.pictures)
        shown = f"{count} class{'es' * (count != 1)}, a picture each"
        return [shown, *(f"{self.out / name}.png, .pdf" for name in self.names)]


def draw_figures(
    request: CompareRequest, build: Build, counting: Progress, *, thresholds: str | None = None
) -> Figures:
    """Records the maps of one picture a class and writes the figures, as PNG and PDF.

    Args:
        request: what is asked for, as for a comparison; maps that one left in ``out`` are used.
        build: resolves the sections of a configuration.
        counting: is told of the drawings.
        thresholds: ``comparison.json`` of a comparison whose tuned thresholds are used; those of
            the presets where None.

    Raises:
        ConfigError: something does not fit, or the folder cannot be written.
        MethodError: a method cannot be recorded on this model.
    """
    whole = request.open(request.split, request.annotations)
    chosen = class_pictures(whole)
    pictures = replace(whole, pictures=chosen)
    setups = preset_setups(request, pictures, build, FIGURE_PRESETS)
    taus = {} if thresholds is None else read_thresholds(Path(thresholds), setups)
    out = Path(request.out)
    recordings = record(pictures, setups, out, strength=request.strength, counting=counting)
    names = []
    for preset, shown in _by_preset(setups, taus).items():
        names += _draw(pictures, recordings, preset, shown, out)
    return Figures(out=out, names=tuple(names), pictures=chosen)


def class_pictures(pictures: PictureSet) -> tuple[Picture, ...]:
    """A picture for each class, in the order of ids: the first that shows it alone, else it first.

    Of a set with more than `MOST_CLASSES` classes as many, spread evenly over the ids.
    """
    ids = {picture.targets[0].entry.id for picture in pictures.pictures}
    found = []
    for class_id in sorted(ids):
        own = [p for p in pictures.pictures if p.targets[0].entry.id == class_id]
        found.append(figure_pictures(own, 1)[0])
    if len(found) > MOST_CLASSES:
        found = [found[place * len(found) // MOST_CLASSES] for place in range(MOST_CLASSES)]
    return tuple(found)


def read_thresholds(path: Path, setups: Sequence[Setup]) -> dict[str, float]:
    """The tuned thresholds in a comparison's file, by setup.

    Raises:
        ConfigError: it is no such file, or lacks one of the setups.
    """
    try:
        rows = json.loads(path.read_text("utf-8"))["rows"]
        found = {row["name"]: float(row["tuned"]["tau"]) for row in rows}
    except OSError as error:
        raise ConfigError(f"--thresholds {path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"--thresholds {path} must be the comparison.json of 'ovamgen evaluate compare', it "
            "is not"
        ) from None
    if lacking := [setup.name for setup in setups if setup.name not in found]:
        raise ConfigError(
            f"--thresholds {path} has no row {lacking[0]}, it has {', '.join(found)}: compare the "
            "same presets, or name those with --presets"
        )
    return found


def _by_preset(setups: Sequence[Setup], taus: Mapping[str, float]) -> dict[str, list[Shown]]:
    found: dict[str, list[Shown]] = {}
    for setup in setups:
        shown = Shown(setup=setup, tau=taus.get(setup.name, setup.tau))
        found.setdefault(setup.preset, []).append(shown)
    return found


def _draw(
    pictures: PictureSet, recordings: Recordings, preset: str, shown: list[Shown], out: Path
) -> list[str]:
    """The figures of a preset: heatmaps where it reads attention, and masks."""
    method = shown[0].setup.method
    names = []
    for kind, make in (("heatmaps", heatmap_panels), ("masks", _masks)):
        if kind == "heatmaps" and preset in HEAD_PRESETS:
            # a head's map is its mask before the threshold
            continue
        name = "-".join(filter(None, [_NUMBERS.get((kind, method)), kind, preset]))
        masks = kind == "masks"
        heads = [f"{one.label}, τ {one.tau:g}" if masks else one.label for one in shown]
        write_grid(
            [make(pictures, recordings, shown, picture) for picture in pictures.pictures],
            pictures.pictures,
            ["image", *heads],
            f"{method}: {'masks, with IoU × 100' if masks else 'heatmaps'}",
            out / name,
            blocks=min(_BLOCKS, -(-len(pictures.pictures) // 2)),
            bar=not masks,
        )
        names.append(name)
    return names


def _masks(
    pictures: PictureSet, recordings: Recordings, shown: Sequence[Shown], picture: Picture
) -> list[Panel]:
    return [
        *image_panels(pictures, picture, truth=False),
        *mask_panels(pictures, recordings, shown, picture),
    ]
