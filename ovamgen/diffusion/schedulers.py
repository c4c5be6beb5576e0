"""Schedulers by name; which of diffusers' can be used for samples that stand alone."""

from __future__ import annotations

import difflib
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

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
        folded = {key.lower(): key for key in known}
        wanted = short.lower()
        near = [key for key in folded if wanted and key.startswith(wanted)]
        near = near or difflib.get_close_matches(wanted, list(folded), n=1, cutoff=0.4)
        names = " or ".join(folded[key] for key in near)
        hint = f"did you mean {names}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"unknown scheduler '{name}': {hint}")
    kind = getattr(diffusers, known[short])
    if short == "DPMSolverSDE":
        raise ConfigError(
            f"scheduler '{name}' draws one noise for the whole batch, so a sample would depend on "
            "its neighbours: use DPMSolverMultistep or EulerAncestralDiscrete"
        )
    return kind
