"""The steps of the recipe, each from files of the work folder to files of the work folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovamgen.errors import ConfigError
from recipes.mini.card import write_card
from recipes.mini.checkpoints import has_checkpoint
from recipes.mini.dataset import (
    DataSettings,
    build_cache,
    build_latent_space,
    held_out,
    open_cache,
)
from recipes.mini.decoder import open_decoder, train_decoder_in
from recipes.mini.decoder_start import start_decoder_from
from recipes.mini.latents import LatentSpace
from recipes.mini.loop import only_one
from recipes.mini.model import ModelShape
from recipes.mini.runs import (
    Bench,
    branch_off,
    keep_weights,
    open_run,
    probe,
    start_from,
    train_in,
)
from recipes.mini.settings import TrainSettings
from recipes.mini.sprites import load_sprites, save_sprites, sprite_sheet
from recipes.mini.state import load_state
from recipes.mini.tokenizer import build_tokenizer
from recipes.mini.voc import write_voc
from recipes.mini.workspace import LATENT_SPACE, Workspace, require_new

_GAP_PICTURES = 160
_DECODER_PICTURES = 64


def make_sprites_in(work: Workspace) -> None:
    """Fetches and rasterises the icons, where that has not been done."""
    # Only this step needs resvg-py; the others run where it is missing.
    from recipes.mini.rasterise import make_sprites

    sprites = make_sprites(work.icons)
    save_sprites(sprites, work.sprites)
    sprite_sheet(sprites).save(work.root / "sprites.png")


def make_data_in(
    work: Workspace,
    settings: DataSettings,
    processes: int,
    *,
    refit_channels: int | None = None,
    latents_of: Path | None = None,
) -> None:
    """Puts the latent space there, where there is none, and fills the cache of pictures."""
    space = build_latent_space(
        load_sprites(work.sprites),
        work.latent_space,
        refit_channels=refit_channels,
        kept=None if latents_of is None else latents_of / LATENT_SPACE,
    )
    build_cache(work.data(settings.variety), settings, work.sprites, space, processes)


def train_networks_in(
    work: Workspace,
    run: str,
    pictures: DataSettings,
    *,
    overrides: dict[str, Any],
    until_step: int,
    probe_every: int,
    branch_from: str | None = None,
    start_from_model: Path | None = None,
    widths: tuple[int, ...] | None = None,
    decay_steps: int = 0,
    minutes: float | None = None,
    device: str = "cpu",
    threads: int = 2,
    compiled: bool = False,
    change: bool = False,
) -> None:
    """Trains the text encoder and the UNet of a run, new, resumed or branched off another one."""
    target = _device(device, threads)
    tokenizer = build_tokenizer()
    folder = work.run(run)
    if branch_from is not None:
        branch_off(work.run(branch_from), folder, decay_steps, tokenizer)
    bench = _bench(work, pictures, target)
    if start_from_model is not None:
        asked = replace(TrainSettings(), **overrides)
        start_from(start_from_model, folder, bench.data, tokenizer, settings=asked)
    with only_one(folder):
        settings = None
        if overrides:
            known = TrainSettings()
            if has_checkpoint(folder):
                known = load_state(folder, tokenizer, torch.device("cpu")).settings
            settings = replace(known, **overrides)
        shape = None if widths is None else ModelShape(unet_widths=widths)
        state = open_run(
            folder,
            bench.data,
            tokenizer,
            target,
            settings,
            shape=shape,
            # no step has been taken yet, so there is nothing to protect
            change=change or start_from_model is not None,
        )
        train_in(
            folder,
            state,
            bench,
            until_step=until_step,
            probe_every=probe_every,
            minutes=minutes,
            compiled=compiled,
            show=_show,
        )


def probe_run(
    work: Workspace, run: str, pictures: DataSettings, *, device: str = "cpu", threads: int = 2
) -> None:
    """Adds a row to the run's ``probes.csv`` and a grid of samples, at its checkpoint."""
    bench = _bench(work, pictures, _device(device, threads))
    folder = work.run(run)
    state = load_state(folder, bench.tokenizer, bench.device)
    _show(str(probe(folder, state, bench)))


def keep_run(work: Workspace, run: str, out: Path) -> None:
    """Writes what trainings can be gone on from elsewhere: averaged weights and the latent space.

    The decoder is among them once there is one.
    """
    cpu = torch.device("cpu")
    state = load_state(work.run(run), build_tokenizer(), cpu)
    space = LatentSpace.load(work.latent_space)
    keep_weights(state, space, out)
    if has_checkpoint(work.decoder):
        with open_decoder(work.decoder, space, cpu).averaged() as autoencoder:
            autoencoder.half().save_pretrained(out / "vae")


def train_decoder(
    work: Workspace,
    *,
    overrides: dict[str, float],
    until_step: int,
    probe_every: int,
    start_from_model: Path | None = None,
    decay_steps: int | None = None,
    minutes: float | None = None,
    processes: int = 0,
    device: str = "cpu",
    threads: int = 2,
) -> None:
    """Trains the decoder, on composites of all training sprites."""
    target = _device(device, threads)
    space = LatentSpace.load(work.latent_space)
    sprites = load_sprites(work.sprites)
    pictures = DataSettings(variety="all", seed=11)
    images = [composite.image for composite in held_out(pictures, sprites, _DECODER_PICTURES)]
    if start_from_model is not None:
        start_decoder_from(start_from_model, work.decoder, space)
    with only_one(work.decoder):
        state = open_decoder(work.decoder, space, target)
        settings = replace(state.settings, **overrides)  # type: ignore[arg-type]  # ints stay ints
        if decay_steps is not None and settings.decay_from is None:
            settings = replace(settings, decay_from=state.step, decay_steps=decay_steps)
        state.settings = settings
        train_decoder_in(
            work.decoder,
            state,
            pictures.composer(sprites),
            space,
            target,
            np.stack(images),
            until_step=until_step,
            probe_every=probe_every,
            minutes=minutes,
            processes=processes,
            show=_show,
        )


def export_model(work: Workspace, run: str, out: Path, quality: Path | None = None) -> None:
    """Writes the model folder from the averaged weights of the run and of the decoder.

    Args:
        work: where both were trained.
        run: name of the networks' run.
        out: new folder.
        quality: what ``quality`` printed of an earlier export of the same weights, for the card.

    Raises:
        ConfigError: one of the two was never trained, or ``out`` holds something.
    """
    # The whole pipeline class takes seconds to import, and no other step needs it.
    from recipes.mini.export import export_pipeline

    cpu = torch.device("cpu")
    tokenizer = build_tokenizer()
    if not has_checkpoint(work.decoder):
        raise ConfigError(f"{work.decoder} must hold a trained decoder: run 'decoder' first")
    decoder = open_decoder(work.decoder, LatentSpace.load(work.latent_space), cpu)
    found = None if quality is None else json.loads(quality.read_text("utf-8"))
    state = load_state(work.run(run), tokenizer, cpu)
    card = write_card(work.run(run), work.decoder, state.shape.channels, found)
    # The contexts would put the float32 weights back; what is exported is converted in place.
    with state.averaged() as networks, decoder.averaged() as autoencoder:
        export_pipeline(out, networks, autoencoder, tokenizer, card)


def make_everything(work: Workspace, out: Path, *, smoke: bool) -> None:
    """Runs all steps; with ``smoke`` so short that only the files are right, not the pictures.

    Raises:
        ConfigError: ``out``, or the data set's place, holds something; nothing has been done yet.
    """
    for folder in (out, work.voc):
        require_new(folder)
    make_sprites_in(work)
    pictures = DataSettings(variety="core", images=500 if smoke else 60_000)
    make_data_in(work, pictures, processes=2)
    train_networks_in(
        work,
        "core",
        pictures,
        overrides={"batch_size": 16} if smoke else {},
        until_step=40 if smoke else 150_000,
        probe_every=1500,
    )
    train_decoder(
        work, overrides={}, until_step=10 if smoke else 40_000, probe_every=10 if smoke else 500
    )
    export_model(work, "core", out)
    counts = (40, 20, 20) if smoke else (2000, 100, 500)
    train, val, test = counts
    write_voc(work.voc, load_sprites(work.sprites), {"train": train, "val": val, "test": test})


def _bench(work: Workspace, pictures: DataSettings, device: torch.device) -> Bench:
    return Bench(
        data=open_cache(work.data(pictures.variety)),
        tokenizer=build_tokenizer(),
        device=device,
        space=LatentSpace.load(work.latent_space),
        pictures=held_out(pictures, load_sprites(work.sprites), _GAP_PICTURES, single=True),
    )


def _device(name: str, threads: int) -> torch.device:
    """The device, with the CPU's threads set.

    Raises:
        ConfigError: there is none of that name.
    """
    torch.set_num_threads(threads)
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"--device must be cpu or cuda, got '{name}'")
    if name == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("--device cuda needs a CUDA device, there is none: use --device cpu")
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return torch.device(name)


def _show(line: str) -> None:
    print(line, flush=True)
