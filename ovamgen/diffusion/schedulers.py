"""Schedulers by name; which of diffusers' can be used for samples that stand alone."""

from __future__ import annotations

from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from ovamgen.console.wording import nearest
from ovamgen.errors import ConfigError


def scheduler_class(name: str) -> Any:
    """The diffusers scheduler of a name, with or without "Scheduler" at its end.

    Raises:
        ConfigError: no scheduler that Stable Diffusion can draw with has that name (the nearest is
            named), or it draws noise that is not seeded per sample.
    """
    known = {kind.name.removesuffix("Scheduler"): kind.name for kind in KarrasDiffusionSchedulers}
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
