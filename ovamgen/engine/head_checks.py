"""What a drawing must be like for a head to read it, looked at before anything is drawn."""

from __future__ import annotations

from ovamgen.attribution.trained_head import LAST_TIMESTEP
from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.schedulers import last_timestep
from ovamgen.errors import ConfigError


def check_ends_at_the_image(loaded: LoadedPipeline, settings: SynthesisConfig) -> None:
    """Checks that a drawing has the call whose features a head reads, for both halves.

    Raises:
        ConfigError: the scheduler ends before it, or there is no guidance.
    """
    last = last_timestep(loaded.pipe, settings.scheduler, settings.steps)
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
