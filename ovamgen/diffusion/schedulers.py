"""Schedulers by name; which of diffusers' can be used for samples that stand alone."""

from __future__ import annotations

from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from ovamgen.console.wording import nearest
from ovamgen.errors import ConfigError

FEW_STEPS = ("LCM", "TCD")
"""For models that were distilled to draw in a few steps; diffusers lists them elsewhere."""


def scheduler_class(name: str) -> Any:
    """The diffusers scheduler of a name, with or without "Scheduler" at its end.

    Raises:
        ConfigError: no scheduler that Stable Diffusion can draw with has that name (the nearest is
            named), or it draws noise that is not seeded per sample.
    """
    known = {kind.name.removesuffix("Scheduler"): kind.name for kind in KarrasDiffusionSchedulers}
    known |= {each: f"{each}Scheduler" for each in FEW_STEPS}
    short = name.removesuffix("Scheduler")
    if short not in known:
        raise ConfigError(f"unknown scheduler '{name}'{nearest(short, known)}")
    kind = getattr(diffusers, known[short])
    if short == "DPMSolverSDE":
        raise ConfigError(
            f"scheduler '{name}' draws one noise for the whole batch, so a sample would depend on "
            "its neighbours: use DPMSolverMultistep or EulerAncestralDiscrete"
        )
    return kind


def check_steps(pipe: Any, name: str, steps: int) -> None:
    """Checks that a scheduler can go through so many steps with the pipeline's noise schedule.

    Args:
        pipe: whose noise schedule is taken.
        name: of the scheduler.
        steps: num_inference_steps.

    Raises:
        ConfigError: it cannot: LCM has 50 at most, as it was distilled from.
    """
    try:
        _timesteps(pipe, name, steps)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"scheduler '{name}' cannot draw in {steps} steps: {reason}") from None


def count_calls(pipe: Any, name: str, steps: int) -> int:
    """UNet calls of one drawing: PNDM makes one more than it has steps (methods 0.3).

    Args:
        pipe: whose noise schedule is taken.
        name: of the scheduler.
        steps: num_inference_steps.
    """
    return len(_timesteps(pipe, name, steps))


def last_timestep(pipe: Any, name: str, steps: int) -> float:
    """The timestep of a drawing's last UNet call, as the scheduler counts them (methods 0.3).

    Args:
        pipe: whose noise schedule is taken.
        name: of the scheduler.
        steps: num_inference_steps.
    """
    return float(_timesteps(pipe, name, steps)[-1])


def _timesteps(pipe: Any, name: str, steps: int) -> Any:
    scheduler = scheduler_class(name).from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps
