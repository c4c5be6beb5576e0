"""A training run in its folder: checkpoint, ``train.csv``, ``probes.csv``, ``samples-*.png``.

Everything needed to go on is in the folder and the data cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ovamgen.errors import ConfigError
from recipes.mini.averages import start_averages
from recipes.mini.checkpoints import has_checkpoint
from recipes.mini.composites import Composite
from recipes.mini.dataset import TrainingData
from recipes.mini.journal import PROBE_LOG, append_row
from recipes.mini.latents import LatentSpace
from recipes.mini.model import ModelShape
from recipes.mini.probed import train
from recipes.mini.probes import CaptionGap, caption_gap, sample_grid
from recipes.mini.settings import TrainSettings
from recipes.mini.state import TrainState, load_state, new_state
from recipes.mini.training import Trainer
from recipes.mini.workspace import LATENT_SPACE, require_new

_WEIGHTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
"""Files of a model folder, as diffusers names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What training and probing need beside the state."""

    data: TrainingData
    tokenizer: Any
    device: torch.device
    space: LatentSpace
    pictures: list[Composite]
    """Held-out pictures of one object each, for the caption gap."""


def open_run(
    folder: Path,
    data: TrainingData,
    tokenizer: Any,
    device: torch.device,
    settings: TrainSettings | None = None,
    *,
    shape: ModelShape | None = None,
    change: bool = False,
) -> TrainState:
    """The run in the folder, resumed where it has a checkpoint, else new.

    Args:
        folder: of the run.
        data: the pictures to train on.
        tokenizer: of the captions.
        device: to put the networks on.
        settings: asked for now; where not given, the checkpoint's, or the defaults.
        shape: of a new run's networks; where not given, the shipped model's.
        change: go on although settings or data are not those the run was trained with so far.

    Raises:
        ConfigError: settings or data differ from the checkpoint's, and ``change`` is not given, or
            the shape does.
    """
    if not has_checkpoint(folder):
        settings = settings or TrainSettings()
        shape = replace(shape or ModelShape(), channels=data.latents.shape[1])
        return new_state(settings, shape, tokenizer, data.digest, device)
    state = load_state(folder, tokenizer, device)
    if shape is not None and shape.unet_widths != state.shape.unet_widths:
        raise ConfigError(
            f"the run in {folder} has widths {state.shape.unet_widths}, got {shape.unet_widths}: "
            "name another run"
        )
    settings = settings or state.settings
    if settings.optimizer != state.settings.optimizer:
        raise ConfigError(
            f"the run in {folder} is trained by {state.settings.optimizer}, got "
            f"{settings.optimizer}: name another run"
        )
    differing = state.settings.differences(settings)
    if state.data_digest != data.digest:
        differing.append(f"data {state.data_digest[:12]} -> {data.digest[:12]}")
    if differing and not change:
        raise ConfigError(
            f"the run in {folder} was trained with other settings or data "
            f"({', '.join(differing)}): give --change to go on with the new ones"
        )
    state.settings, state.data_digest = settings, data.digest
    return state


def branch_off(trunk: Path, folder: Path, decay_steps: int, tokenizer: Any) -> None:
    """Starts a run in ``folder`` that goes on from the trunk's checkpoint and decays its rate.

    Raises:
        ConfigError: the trunk has no checkpoint, or the folder already has one.
    """
    if has_checkpoint(folder):
        raise ConfigError(
            f"{folder} must be a new folder to branch into, it has a checkpoint: resume it with "
            "'train', or name another folder"
        )
    state = load_state(trunk, tokenizer, torch.device("cpu"))
    state.settings = replace(state.settings, decay_from=state.step, decay_steps=decay_steps)
    state.save(folder)


def keep_weights(state: TrainState, space: LatentSpace, folder: Path) -> None:
    """Writes what `start_from` goes on from elsewhere: averages in half precision.

    Args:
        state: of the run.
        space: that its latents are of; written beside the weights.
        folder: new or empty.

    Raises:
        ConfigError: the folder holds something.
    """
    require_new(folder)
    counts = {"step": str(state.step), "samples": str(state.samples)}
    with state.averaged() as networks:
        for part, path in _WEIGHTS.items():
            weights = getattr(networks, part).state_dict()
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            halves = {name: value.half().contiguous() for name, value in weights.items()}
            save_file(halves, folder / path, counts)
    space.save(folder / LATENT_SPACE)


def start_from(
    model: Path,
    folder: Path,
    data: TrainingData,
    tokenizer: Any,
    shape: ModelShape | None = None,
    settings: TrainSettings | None = None,
) -> None:
    """Starts a run in ``folder`` with exported or kept weights, all else as new.

    For going on where no checkpoint is left: weights are in half precision, and the optimizer
    begins anew. Kept weights know the steps and samples that they have seen, which go on; of an
    exported model the rate warms up again.

    Raises:
        ConfigError: the folder already has a checkpoint, or the model is of another shape.
    """
    if has_checkpoint(folder):
        raise ConfigError(
            f"{folder} must be a new folder to start in, it has a checkpoint: resume it without "
            "--start-from, or name another run"
        )
    shape = replace(shape or ModelShape(), channels=data.latents.shape[1])
    state = new_state(
        settings or TrainSettings(), shape, tokenizer, data.digest, torch.device("cpu")
    )
    for part, name in _WEIGHTS.items():
        path = model / name
        try:
            weights = {key: value.float() for key, value in load_file(path).items()}
            getattr(state.networks, part).load_state_dict(weights)
            with safe_open(path, "pt") as file:
                counts = file.metadata() or {}
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"{path} must hold this recipe's {part}: {reason}") from None
    state.ema = start_averages(state.networks.parameters())
    state.step, state.samples = int(counts.get("step", 0)), int(counts.get("samples", 0))
    state.save(folder)


def train_in(
    folder: Path,
    state: TrainState,
    bench: Bench,
    *,
    until_step: int,
    probe_every: int,
    minutes: float | None = None,
    compiled: bool = False,
    show: Callable[[str], None] = print,
) -> None:
    """Trains the run, writes its logs, and probes it every so many steps and at the end."""
    trainer = Trainer(state, bench.data, bench.tokenizer, bench.device, compiled=compiled)
    train(
        trainer,
        folder,
        until_step=until_step,
        probe_every=probe_every,
        probe=lambda: str(probe(folder, state, bench)),
        minutes=minutes,
        show=show,
    )


def probe(folder: Path, state: TrainState, bench: Bench) -> CaptionGap:
    """The caption gap of the averaged weights; adds a row to ``probes.csv`` and draws a grid."""
    with state.averaged() as networks:
        gap = caption_gap(networks, bench.pictures, bench.space, bench.tokenizer, bench.device)
        grid = sample_grid(networks, bench.space, bench.tokenizer, bench.device)
    append_row(folder / PROBE_LOG, {"step": state.step, "samples": state.samples, **gap.row()})
    Image.fromarray(grid).save(folder / f"samples-{state.step:07d}.png")
    return gap
