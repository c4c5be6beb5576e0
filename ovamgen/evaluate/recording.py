"""Heatmaps of every picture by every setup, kept on disk so that a stopped evaluation goes on.

Setups that need the same drawing hear it together. This module knows neither thresholds nor
scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from ovamgen.attribution.chosen_attention import QuerySink, check_chosen, chosen
from ovamgen.attribution.interface import HeatmapSink
from ovamgen.attribution.method import build_method
from ovamgen.attribution.targets import AttributedClasses
from ovamgen.classes.loading import is_default
from ovamgen.config import SynthesisConfig, canonical_json
from ovamgen.console.progress import Progress
from ovamgen.diffusion.pipeline import LoadedPipeline, load_pipeline
from ovamgen.diffusion.recorder import Listener
from ovamgen.diffusion.recreate import Recreator, check_strength
from ovamgen.engine.engine import class_heatmaps
from ovamgen.engine.head_checks import check_ends_at_the_image
from ovamgen.engine.opened_model import PipelineAttention, use_repeatable_arithmetic
from ovamgen.engine.redraw import Redrawer
from ovamgen.errors import ConfigError, SampleError
from ovamgen.evaluate.map_files import RecordedMaps, read_maps, write_maps
from ovamgen.evaluate.setups import Setup, check_classes
from ovamgen.pictures.picture_set import Picture, PictureSet

MAPS = "maps"
_VERSION = 2


@runtime_checkable
class MapSource(Protocol):
    """Where maps come from that are judged."""

    def maps(self, setup: Setup, picture: Picture) -> RecordedMaps:
        """The maps of a picture by a setup."""


@dataclass(frozen=True, slots=True, eq=False)
class Recordings:
    """Where the maps of a picture set lie."""

    folder: Path
    fingerprints: dict[tuple[str, str], str]
    """By setup and picture."""

    def maps(self, setup: Setup, picture: Picture) -> RecordedMaps:
        """The maps of a picture by a setup.

        Raises:
            ConfigError: they are gone, or were changed by another run meanwhile.
        """
        path = _path(self.folder, setup, picture)
        found = read_maps(path, self.fingerprints[setup.name, picture.key])
        if found is None:
            raise ConfigError(f"{path} is gone or of another run: give every run an --out its own")
        return found


def check_strength_for(pictures: PictureSet, setups: Sequence[Setup], strength: float) -> None:
    """Checks that real pictures can be noised to that strength by all setups.

    Raises:
        ConfigError: no share, or less than one step.
    """
    if pictures.kind == "voc":
        for setup in setups:
            if not setup.config.attribution.probe:
                check_strength(strength, setup.config.synthesis.steps)


def record(
    pictures: PictureSet,
    setups: Sequence[Setup],
    out: Path,
    *,
    strength: float,
    loaded: LoadedPipeline | None = None,
    counting: Progress | None = None,
) -> Recordings:
    """Has the maps of all pictures by all setups on disk; what is there already stays.

    Generated samples are drawn from their prompts and seeds with the settings of their folder. Real
    ones are noised to the strength and denoised with their captions, with each setup's settings.

    Args:
        pictures: with `open_pictures`.
        setups: all for one model.
        out: the maps are written to ``out/maps``.
        strength: of image-to-image, in (0, 1].
        loaded: the pipeline, where it is loaded already.
        counting: is told how many drawings there are, are done already, and each one that is made.

    Raises:
        ConfigError: a bank or a head lacks a class, drawings do not end where a head reads, or the
            folder cannot be written.
        MethodError: a method cannot be recorded on this model.
    """
    config = setups[0].config
    check_classes(setups, pictures.pictures)
    check_strength_for(pictures, setups, strength)
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    pipeline = load_pipeline(config.model) if loaded is None else loaded
    for setup in setups:
        if setup.head is not None:
            check_ends_at_the_image(
                pipeline, setup.config.synthesis, setup.config.attribution.probe
            )
    groups = _groups(pictures, setups, strength)
    folder = out / MAPS / (pictures.split or pictures.kind)
    prints = {
        (setup.name, picture.key): maps_fingerprint(pipeline, pictures, picture, setup, drawing)
        for drawing, members in groups
        for setup in members
        for picture in pictures.pictures
    }
    work = [
        (drawing, picture, missing)
        for drawing, members in groups
        for picture in pictures.pictures
        if (
            missing := [
                setup
                for setup in members
                if read_maps(_path(folder, setup, picture), prints[setup.name, picture.key]) is None
            ]
        )
    ]
    if counting is not None:
        total = len(groups) * len(pictures.pictures)
        counting.start(total, total - len(work))
    artists: dict[str, Artist] = {}
    for drawing, picture, missing in work:
        name = canonical_json(drawing.describe())
        if name not in artists:
            artists[name] = drawing.open(pipeline)
        found = _record_one(pipeline, pictures, picture, missing, artists[name])
        for setup, recorded in zip(missing, found, strict=True):
            path = _path(folder, setup, picture)
            write_maps(path, recorded, prints[setup.name, picture.key])
        if counting is not None:
            counting.add()
    return Recordings(folder, prints)


def count_drawings(
    pictures: PictureSet, setups: Sequence[Setup], strength: float
) -> dict[int, int]:
    """How many drawings `record` makes, by the steps that each goes through.

    Args:
        pictures: with `open_pictures`.
        setups: all for one model.
        strength: of image-to-image, in (0, 1].
    """
    found: dict[int, int] = {}
    for drawing, _ in _groups(pictures, setups, strength):
        whole = drawing.synthesis.steps
        steps = whole if drawing.generated else max(1, int(whole * strength))
        steps = len(drawing.probe) or steps
        found[steps] = found.get(steps, 0) + len(pictures.pictures)
    return found


Heard = tuple[HeatmapSink, AttributedClasses]
Artist = Callable[[Picture, UInt8[np.ndarray, "H W 3"], list[Listener]], float]
"""Draws a picture again, heard by the listeners: its mean absolute difference to the pixels."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A way to draw the pictures of a set, with the settings that it needs."""

    generated: bool
    """Drawn from prompts and seeds, or from pictures that are noised to the strength."""
    synthesis: SynthesisConfig
    strength: float
    probe: tuple[int, ...] = ()
    """Timesteps at which pictures are looked at as they are; where there are some none is drawn."""

    def describe(self) -> dict[str, Any]:
        """What decides how pictures are drawn, as plain values."""
        synthesis = self.synthesis.model_dump(mode="json", exclude={"safety"})
        if self.probe:
            return {"synthesis": synthesis, "probe": list(self.probe)}
        return {"synthesis": synthesis, "strength": None if self.generated else self.strength}

    def open(self, pipeline: LoadedPipeline) -> Artist:
        """What draws them with a pipeline."""
        if self.generated and not self.probe:
            redrawer = Redrawer(pipeline, self.synthesis)
            return lambda picture, image, listeners: redrawer.draw(
                [picture.prompt], [picture.seed], [image], listeners
            )[0]
        recreator = Recreator(pipeline, self.synthesis, self.strength, self.probe)
        return lambda picture, image, listeners: (
            recreator.draw(image, picture.prompt, picture.seed, listeners).difference
        )


def drawing_of(pictures: PictureSet, setup: Setup, strength: float) -> Drawing:
    """How a setup has the pictures drawn."""
    config = setup.config
    generated = pictures.kind == "samples"
    return Drawing(generated, config.synthesis, strength, config.attribution.probe)


def _groups(
    pictures: PictureSet, setups: Sequence[Setup], strength: float
) -> list[tuple[Drawing, list[Setup]]]:
    """The setups by the drawing that they hear."""
    groups: dict[str, tuple[Drawing, list[Setup]]] = {}
    for setup in setups:
        drawing = drawing_of(pictures, setup, strength)
        name = canonical_json(drawing.describe())
        groups.setdefault(name, (drawing, []))[1].append(setup)
    return list(groups.values())


def _record_one(
    pipeline: LoadedPipeline,
    pictures: PictureSet,
    picture: Picture,
    setups: Sequence[Setup],
    draw: Artist,
) -> list[RecordedMaps]:
    """One drawing, heard by all setups at once; those that record the same share a sink."""
    attention = PipelineAttention(pipeline)
    sinks: dict[tuple[str, ...], Heard] = {}
    fed: list[QuerySink] = []
    listeners: list[Listener] = []
    problems: list[dict[int, str]] = []
    for setup in setups:
        targets, without = setup.targets(picture, attention)
        problems.append(dict(without))
        if setup.recorded not in sinks and targets.targets:
            method = build_method(
                setup.method, attention, targets.targets, setup.config.masks, head=setup.head
            )
            sink = method.open([picture.prompt])
            sinks[setup.recorded] = sink, targets
            fed.append(chosen(sink, setup.config.attribution))
            listeners.append((fed[-1], setup.config.attribution.half))
    try:
        difference = draw(picture, pictures.image(picture), listeners)
    except SampleError as error:
        reason = f"the picture could not be drawn: {error}"
        nothing = np.zeros((len(picture.targets), 1, 1), np.float32)
        everywhere = dict.fromkeys(range(len(picture.targets)), reason)
        return [RecordedMaps(maps=nothing, problems=everywhere, difference=255.0) for _ in setups]
    for one in fed:
        check_chosen(one)
    return [
        maps_of(picture, setup, sinks.get(setup.recorded), found, difference)
        for setup, found in zip(setups, problems, strict=True)
    ]


def maps_of(
    picture: Picture,
    setup: Setup,
    heard: Heard | None,
    problems: dict[int, str],
    difference: float,
) -> RecordedMaps:
    """The maps of all classes of the picture; those without a target are all zero.

    Args:
        picture: with the classes.
        setup: normalises the maps.
        heard: a sink after the drawing, and the classes that it was opened for; None where none
            of the picture's has a target.
        problems: why a class has no target, by its place; what is wrong with maps is added.
        difference: between the picture and what was drawn.
    """
    places = [place for place in range(len(picture.targets)) if place not in problems]
    if heard is None:
        maps = np.zeros((len(picture.targets), 1, 1), np.float32)
        return RecordedMaps(maps=maps, problems=problems, difference=difference)
    sink, classes = heard
    found, fractions = (t.cpu().numpy() for t in class_heatmaps(sink, setup.config.masks, classes))
    maps = np.zeros((len(picture.targets), *found.shape[2:]), np.float32)
    for index, place in enumerate(places):
        if reason := classes.problem(sink, 0, index):
            problems[place] = reason
        elif not np.isfinite(fractions[0, index]):
            problems[place] = "the heatmap is not finite: another precision or seed"
        else:
            maps[place] = found[0, index]
    return RecordedMaps(maps=maps, problems=problems, difference=difference)


def maps_fingerprint(
    pipeline: LoadedPipeline,
    pictures: PictureSet,
    picture: Picture,
    setup: Setup,
    drawing: Drawing,
) -> str:
    """sha256 (hex) of everything that the maps of a picture depend on."""
    data = {
        "version": _VERSION,
        "weights": pipeline.info.digest,
        "dtype": setup.config.model.dtype,
        "device": setup.config.model.device,
        "threads": setup.config.runtime.cpu_threads,
        "kind": pictures.kind,
        "drawing": drawing.describe(),
        "setup": setup.identity(),
        "picture": picture.digest,
        "prompt": picture.prompt,
        "seed": picture.seed,
        "classes": [target.entry.id for target in picture.targets],
    }
    if not is_default(pictures.classes):
        # an id says nothing without its set
        data["class_set"] = pictures.classes.digest
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def _path(folder: Path, setup: Setup, picture: Picture) -> Path:
    return folder / setup.name / f"{picture.key}.npz"
