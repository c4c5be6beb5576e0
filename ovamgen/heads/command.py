"""``ovamgen heads train``, from what is asked for to the head that a training leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ovamgen import mini
from ovamgen.attribution.heads.head_file import HeadKind
from ovamgen.config import MODEL_IDENTITY, RunConfig
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.errors import ConfigError
from ovamgen.heads.settings import load_head_preset
from ovamgen.heads.training import TrainedHead, train_head
from ovamgen.pictures.picture_set import PictureSet, open_pictures

Sections = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTrainRequest:
    """What the command was asked for; None where nothing was said."""

    kind: HeadKind
    pictures: str
    out: str
    model: dict[str, Any]
    """Keys of the section ``model``."""
    settings: dict[str, Any]
    """Fields of `ovamgen.heads.settings.HeadTrainSettings`, laid over the preset's."""
    preset: str | None = None
    split: str | None = None
    annotations: str | None = None
    limit: int | None = None
    halves: bool = False
    """The head is written in float16."""


def train_from(request: HeadTrainRequest, build: Callable[[Sections], RunConfig]) -> TrainedHead:
    """Trains the head that is asked for, or goes on with its training.

    Args:
        request: what is asked for.
        build: resolves the sections of a configuration.

    Raises:
        ConfigError: pictures, preset, settings, model or place that cannot be used.
        MethodError: the model has no such features.
        OvamgenError: the loss is no number.
        Interrupted: a signal came; the same command goes on.
    """
    if not request.out.endswith(".safetensors"):
        raise ConfigError(f"--out must end in .safetensors, got {request.out}")
    pictures = open_pictures(
        request.pictures,
        split=request.split,
        annotations=request.annotations,
        limit=request.limit,
        option="--pictures",
    )
    config = build({"model": _model(pictures, request.model)})
    suffix = "mini" if config.model.id == mini.NAME else "published"
    settings = load_head_preset(request.preset or f"{request.kind}-{suffix}", **request.settings)
    if settings.kind != request.kind:
        raise ConfigError(
            f"the preset {request.preset} is of {settings.kind}, a {request.kind} head was asked "
            "for: give a preset of that name"
        )
    threads = config.runtime.cpu_threads or 1
    return train_head(
        settings,
        pictures,
        load_pipeline(config.model),
        request.out,
        cpu_threads=threads,
        halves=request.halves,
    )


def _model(pictures: PictureSet, asked: dict[str, Any]) -> dict[str, Any]:
    """The model that drew the samples, or the one that is asked for.

    Raises:
        ConfigError: samples were drawn by another one: features of their drawing are wanted.
    """
    drawn_by = pictures.settings.get("model", {})
    given = {name: value for name, value in asked.items() if value is not None}
    own = drawn_by.get("id")
    if own and given.get("id") not in (None, own):
        raise ConfigError(
            f"the samples of {pictures.name} were drawn by {own}, --model is {given['id']}: leave "
            "--model away, since their drawing is what is learnt from"
        )
    named = {name: drawn_by[name] for name in MODEL_IDENTITY if drawn_by.get(name)}
    return named | given
