"""What a head asks of a drawing, and what it costs, known before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ovamgen.attribution.trained_head import LAST_TIMESTEP, HeadUse
from ovamgen.config import RunConfig, SynthesisConfig
from ovamgen.console.wording import readable_bytes
from ovamgen.diffusion.features import feature_bytes
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.schedulers import last_timestep
from ovamgen.errors import ConfigError


def check_ends_at_the_image(
    loaded: LoadedPipeline, settings: SynthesisConfig, probe: Sequence[int] = ()
) -> None:
    """Checks that a drawing, or a probe, has the call whose features a head reads, both halves.

    Args:
        loaded: the model.
        settings: of the drawing.
        probe: timesteps at which finished images are looked at instead.

    Raises:
        ConfigError: the scheduler or the probe ends before it, or there is no guidance.
    """
    if probe and min(probe) > LAST_TIMESTEP:
        raise ConfigError(
            f"a head reads the UNet call at timestep {LAST_TIMESTEP:g}, and attribution.probe ends "
            f"at {min(probe)}: probe at 1"
        )
    last = 0.0 if probe else last_timestep(loaded.pipe, settings.scheduler, settings.steps)
    if last > LAST_TIMESTEP:
        raise ConfigError(
            f"a head reads the UNet call at timestep {LAST_TIMESTEP:g}, but {settings.scheduler} "
            f"with {settings.steps} steps ends at {last:g}: use PNDM or DDIM (synthesis.scheduler)"
        )
    if settings.guidance <= 1:
        raise ConfigError(
            "a head reads both halves of a guided batch, which needs synthesis.guidance above 1, "
            f"got {settings.guidance:g}"
        )


def recorded_bytes(config: RunConfig, use: HeadUse, latent_size: tuple[int, int]) -> int:
    """Bytes of the features of a whole batch, which a drawing holds during its last UNet call.

    Args:
        config: resolved.
        use: the head.
        latent_size: (height, width) of the latents.
    """
    itemsize = getattr(torch, config.model.dtype).itemsize
    one = feature_bytes(use.head.network.shape.channels, latent_size, itemsize=itemsize)
    return one * config.plan.batch_size


def head_in_words(config: RunConfig, use: HeadUse, latent_size: tuple[int, int]) -> str:
    """Which head a run uses, how, and the memory that it needs: one line for people.

    Args:
        config: resolved.
        use: the head.
        latent_size: (height, width) of the latents.
    """
    size = readable_bytes(recorded_bytes(config, use, latent_size))
    return (
        f"head: {use.head.kind} {use.head.sha256[:12]}, mode {use.mode}; recording its features "
        f"takes {size} for a batch of {config.plan.batch_size} ({config.model.dtype}), during "
        "the last UNet call"
    )
