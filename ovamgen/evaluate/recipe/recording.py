"""One recording of every picture, out of which the maps of all recipes are put together.

A file a picture in ``parts/``: class maps by layer size and stretch of calls, with words and with
tokens, the received self-attention and the mean matrix. A stopped search goes on with them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from ovamgen.attribution.method import build_method
from ovamgen.attribution.parts import AttentionParts, Part, PartialMaps, SummedParts
from ovamgen.attribution.refinement import refine
from ovamgen.attribution.self_attention import AttentionAffinity, ReceivedAttention
from ovamgen.attribution.targets import AttributedClasses
from ovamgen.config import canonical_json
from ovamgen.console.progress import Progress
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.recorder import Listener
from ovamgen.engine.opened_model import PipelineAttention, use_repeatable_arithmetic
from ovamgen.errors import ConfigError, SampleError
from ovamgen.evaluate.map_files import RecordedMaps, read_arrays, write_arrays
from ovamgen.evaluate.recipe.grid import HIGHEST, Stretch
from ovamgen.evaluate.recording import (
    Artist,
    drawing_of,
    maps_fingerprint,
    maps_of,
)
from ovamgen.evaluate.setups import Setup
from ovamgen.pictures.picture_set import Picture, PictureSet

PARTS = "parts"
_VERSION = 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KindParts:
    """The parts of one picture's maps with words, or with tokens."""

    parts: dict[Part, PartialMaps]
    sizes: tuple[int, ...]
    """How many targets each class has that has any."""
    problems: dict[int, str]
    """Why a class has none, by its place."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PictureParts:
    """Everything that was recorded of one picture."""

    kinds: dict[str, KindParts]
    """By the name of the setup."""
    received: Float32[Tensor, "1 h w"]
    matrix: Float32[Tensor, "1 P P"]
    matrix_size: tuple[int, int]
    highest: float
    """The highest timestep at which the UNet was called."""
    difference: float
    """As `RecordedMaps.difference`."""
    failure: str
    """Why the picture could not be drawn, or ""."""


@dataclass(eq=False)
class PartRecordings:
    """The parts of a picture set; gives the maps of any recipe, as a recording with it would have.

    What was read stays in memory: 4 MB and some maps a picture of Stable Diffusion at 512 pixels.
    """

    folder: Path
    fingerprints: dict[str, str]
    """By picture."""
    stretches: tuple[Stretch, ...]
    _read: dict[str, PictureParts] = field(default_factory=dict)

    def parts(self, picture: Picture) -> PictureParts:
        """What was recorded of a picture.

        Raises:
            ConfigError: it is gone, or was changed by another run meanwhile.
        """
        if picture.key not in self._read:
            path = _path(self.folder, picture)
            found = _read_parts(path, self.fingerprints[picture.key])
            if found is None:
                raise ConfigError(
                    f"{path} is gone or of another run: give every run an --out its own"
                )
            self._read[picture.key] = found
        return self._read[picture.key]

    def maps(self, setup: Setup, picture: Picture) -> RecordedMaps:
        """The maps of a picture by a setup that has the name of a recorded one, and any recipe.

        Raises:
            ConfigError: as for `parts`.
            MethodError: nothing was recorded of what the setup reads.
        """
        recorded = self.parts(picture)
        if recorded.failure:
            nothing = np.zeros((len(picture.targets), 1, 1), np.float32)
            problems = dict.fromkeys(range(len(picture.targets)), recorded.failure)
            return RecordedMaps(maps=nothing, problems=problems, difference=recorded.difference)
        kind = recorded.kinds[setup.name]
        heard = None
        if kind.sizes:
            stretches = self._within(setup.config.attribution.calls, recorded.highest)
            sink = _RefinedParts(kind, recorded, setup, stretches)
            heard = sink, AttributedClasses(targets=(), sizes=kind.sizes)
        return maps_of(picture, setup, heard, dict(kind.problems), recorded.difference)

    def layer_sizes(self, pictures: Sequence[Picture]) -> tuple[int, ...]:
        """The layers that were recorded of all pictures, by the cells of their shorter side."""
        return tuple(sorted({cells for cells, _ in self._common(pictures)}))

    def called(self, pictures: Sequence[Picture]) -> tuple[Stretch, ...]:
        """The stretches in which the UNet was called for all pictures.

        The last one reaches as far as the UNet was called, if that is beyond its end.
        """
        numbers = sorted({stretch for _, stretch in self._common(pictures)})
        *others, (low, high) = self.stretches
        seen = math.ceil(max((self.parts(picture).highest for picture in pictures), default=0))
        ends = (*others, (low, max(high, seen)))
        return tuple(ends[number] for number in numbers)

    def _within(self, calls: Stretch | None, highest: float) -> list[int] | None:
        """The numbers of the stretches that lie in the calls; None for all."""
        if calls is None:
            return None
        ends = [*(float(high) for _, high in self.stretches[:-1]), highest]
        return [
            number
            for number, ((low, _), end) in enumerate(zip(self.stretches, ends, strict=True))
            if calls[0] <= low and end <= calls[1]
        ]

    def _common(self, pictures: Sequence[Picture]) -> set[Part]:
        found = [
            set(kind.parts)
            for picture in pictures
            for kind in self.parts(picture).kinds.values()
            if kind.parts
        ]
        return set.intersection(*found) if found else set()


class _RefinedParts(SummedParts):
    """Summed parts, refined by the self-attention of the same drawing."""

    def __init__(
        self,
        kind: KindParts,
        recorded: PictureParts,
        setup: Setup,
        stretches: Sequence[int] | None,
    ) -> None:
        super().__init__(kind.parts, setup.config.attribution.resolutions, stretches)
        self._recorded = recorded
        self._masks = setup.config.masks

    def class_maps(self) -> Float32[Tensor, "B K h w"]:
        maps = super().class_maps()
        if self._masks.self_attention not in ("affinity", "iterated"):
            return maps
        return refine(maps, self._recorded.matrix, self._recorded.matrix_size, self._masks)

    def factor(self) -> Float32[Tensor, "B h w"] | None:
        return self._recorded.received if self._masks.self_attention == "received" else None


def record_parts(
    pictures: PictureSet,
    setups: Sequence[Setup],
    out: Path,
    *,
    strength: float,
    stretches: Sequence[Stretch],
    loaded: LoadedPipeline,
    counting: Progress,
) -> PartRecordings:
    """Has the parts of all pictures on disk; what is there already stays.

    Args:
        pictures: with `open_pictures`.
        setups: of the method ``ovam``, one with words, one with tokens, equal in all else.
        out: the parts are written to ``out/parts``.
        strength: of image-to-image, for real pictures.
        stretches: of timesteps, the last one with whatever is called beyond it.
        loaded: the pipeline.
        counting: is told how many drawings there are, are done already, and each one that is made.

    Raises:
        ConfigError: the folder cannot be written, or a call lies between two stretches.
        MethodError: attention cannot be recorded on this model.
    """
    config = setups[0].config
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    attention = PipelineAttention(loaded)
    attention.check_self_attention()
    drawing = drawing_of(pictures, setups[0], strength)
    prints = {}
    for picture in pictures.pictures:
        found = [maps_fingerprint(loaded, pictures, picture, one, drawing) for one in setups]
        told = [_VERSION, found, [list(stretch) for stretch in stretches]]
        prints[picture.key] = hashlib.sha256(canonical_json(told).encode()).hexdigest()
    folder = out / PARTS / (pictures.split or pictures.kind)
    work = [
        picture
        for picture in pictures.pictures
        if _read_parts(_path(folder, picture), prints[picture.key]) is None
    ]
    counting.start(len(pictures.pictures), len(pictures.pictures) - len(work))
    artist: Artist | None = None
    for picture in work:
        artist = artist or drawing.open(loaded)
        arrays, described = _record_one(attention, pictures, picture, setups, stretches, artist)
        write_arrays(_path(folder, picture), arrays, described, prints[picture.key])
        counting.add()
    return PartRecordings(folder, prints, tuple(stretches))


def _record_one(
    attention: PipelineAttention,
    pictures: PictureSet,
    picture: Picture,
    setups: Sequence[Setup],
    stretches: Sequence[Stretch],
    draw: Artist,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    config = setups[0].config
    received, matrix = ReceivedAttention(), AttentionAffinity(config.masks)
    half = config.attribution.half
    listeners: list[Listener] = [(received, half), (matrix, half)]
    open_ended = [*stretches[:-1], (stretches[-1][0], HIGHEST)]
    heard: dict[str, AttentionParts] = {}
    kinds: dict[str, dict[str, Any]] = {}
    for setup in setups:
        targets, problems = setup.targets(picture, attention)
        kinds[setup.name] = {"sizes": list(targets.sizes), "problems": dict(problems)}
        if targets.targets:
            method = build_method(setup.method, attention, targets.targets)
            sink = AttentionParts(partial(method.open, [picture.prompt]), open_ended)
            heard[setup.name] = sink
            listeners.append((sink, half))
    try:
        difference = draw(picture, pictures.image(picture), listeners)
    except SampleError as error:
        reason = f"the picture could not be drawn: {error}"
        return {}, {"difference": 255.0, "highest": 0.0, "kinds": {}, "failure": reason}
    arrays = {
        "received": received.result().cpu().numpy(),
        "matrix": matrix.matrix.cpu().numpy(),
        "matrix_size": np.array(matrix.size, np.int64),
    }
    for name, sink in heard.items():
        parts = sink.parts()
        kinds[name]["maxima"] = {_told(part): found.maximum for part, found in parts.items()}
        for part, found in parts.items():
            arrays[f"{name}/{_told(part)}"] = found.maps.cpu().numpy()
    highest = max((sink.highest for sink in heard.values()), default=0.0)
    told = {"difference": difference, "highest": highest, "kinds": kinds, "failure": ""}
    return arrays, told


def _read_parts(path: Path, fingerprint: str) -> PictureParts | None:
    found = read_arrays(path, fingerprint)
    if found is None:
        return None
    arrays, described = found
    try:
        return _parts_of(arrays, described)
    except (KeyError, TypeError, ValueError):
        # a file that was begun by something else, or whose arrays are not all there
        return None


def _parts_of(arrays: Mapping[str, np.ndarray], described: Mapping[str, Any]) -> PictureParts:
    failure = str(described["failure"])
    kinds = {}
    for name, told in described["kinds"].items():
        parts = {}
        for text, maximum in told.get("maxima", {}).items():
            cells, stretch = map(int, text.split("-"))
            maps = torch.from_numpy(arrays[f"{name}/{text}"])
            parts[cells, stretch] = PartialMaps(maps, float(maximum))
        kinds[name] = KindParts(
            parts=parts,
            sizes=tuple(told["sizes"]),
            problems={int(place): why for place, why in told["problems"].items()},
        )
    none = np.zeros((1, 1, 1), np.float32)
    height, width = (1, 1) if failure else map(int, arrays["matrix_size"])
    return PictureParts(
        kinds=kinds,
        received=torch.from_numpy(none if failure else arrays["received"]),
        matrix=torch.from_numpy(none if failure else arrays["matrix"]),
        matrix_size=(height, width),
        highest=float(described["highest"]),
        difference=float(described["difference"]),
        failure=failure,
    )


def _told(part: Part) -> str:
    return f"{part[0]}-{part[1]}"


def _path(folder: Path, picture: Picture) -> Path:
    return folder / f"{picture.key}.npz"
