"""The grid of recipes: which layers and calls are read, and what self-attention does to maps.

It says what may be tried; it does not know what was drawn, nor how recipes are scored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ovamgen.config import RunConfig, merge
from ovamgen.errors import ConfigError

Stretch = tuple[int, int]
"""The lowest and the highest timestep of some UNet calls, as ``attribution.calls`` has them."""
STRETCHES = 3
HIGHEST = 1000
"""The timestep of whole drawings: noise."""

_SPREAD = {"normalisation": "min-max", "normalised_at": "map"}
"""How Dataset Diffusion and iSeg normalise what self-attention has refined."""
_ALONE = {"self_attention": "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """What becomes of maps before they are compared with a threshold."""

    name: str
    masks: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the section ``masks``."""


PLAIN = Refinement(name="none", masks=_ALONE)
REFINEMENTS = (
    PLAIN,
    Refinement(name="none, min-max", masks=_ALONE | _SPREAD),
    Refinement(
        name="received, from 0.5",
        masks={"self_attention": "received", "self_attention_low": 0.5, "normalised_at": "map"},
    ),
    *(
        Refinement(
            name=f"affinity, power {power}",
            masks={"self_attention": "affinity", "self_attention_power": power, **_SPREAD},
        )
        for power in (1, 2, 4)
    ),
    *(
        Refinement(
            name=f"iterated {times} times, entropy step {step:g}",
            masks={
                "self_attention": "iterated",
                "self_attention_iterations": times,
                "self_attention_entropy_step": step,
                **_SPREAD,
            },
        )
        for times in (3, 10)
        for step in (0.015, 0.1)
    ),
)
"""What is tried; the first is that of ``ovam``."""
QUICK_REFINEMENTS = tuple(
    found
    for found in REFINEMENTS
    if found.name
    in ("none", "none, min-max", "affinity, power 4", "iterated 10 times, entropy step 0.015")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to read attention."""

    resolutions: tuple[int, ...] = ()
    """Cells of the shorter side of the layers that are read; all where empty."""
    calls: Stretch | None = None
    """Timesteps of the calls that are read; all where None."""
    refinement: Refinement = PLAIN

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """The recipe as keys of a configuration."""
        attribution: dict[str, Any] = {
            "resolutions": list(self.resolutions),
            "calls": None if self.calls is None else list(self.calls),
        }
        return {"attribution": attribution, "masks": dict(self.refinement.masks)}

    @property
    def layers_text(self) -> str:
        """The layers in words."""
        return " + ".join(map(str, self.resolutions)) if self.resolutions else "all"

    @property
    def calls_text(self) -> str:
        """The calls in words."""
        return "all" if self.calls is None else f"{self.calls[0]} to {self.calls[1]}"

    def __str__(self) -> str:
        """In one line."""
        return (
            f"layers {self.layers_text}; calls {self.calls_text}; self-attention "
            f"{self.refinement.name}"
        )

    def changes(self, other: Recipe) -> int:
        """In how many of the three choices the recipes differ."""
        return sum(getattr(self, name) != getattr(other, name) for name in self.__slots__)


OVAM = Recipe()
"""All layers, all calls, no self-attention."""


def stretches_below(highest: int) -> tuple[Stretch, ...]:
    """Timesteps from 0 to the highest in thirds, the nearest to the image first.

    Args:
        highest: `HIGHEST` for whole drawings; less for pictures that are noised to a part of it.

    Raises:
        ConfigError: too few timesteps for thirds.
    """
    if highest < STRETCHES:
        raise ConfigError(f"--strength must leave {STRETCHES} timesteps or more, got {highest}")
    edges = [highest * step // STRETCHES for step in range(STRETCHES + 1)]
    lows = [edges[0], *(edge + 1 for edge in edges[1:-1])]
    return tuple(zip(lows, edges[1:], strict=True))


def recipes(
    sizes: Sequence[int], stretches: Sequence[Stretch], *, quick: bool = False
) -> tuple[Recipe, ...]:
    """The grid, `OVAM` first: every set of layers, of adjoining thirds, and every refinement.

    Args:
        sizes: of the layers that were recorded.
        stretches: the thirds in which the UNet was called, in order.
        quick: single thirds or all, and fewer refinements.
    """
    layers = [(), *_proper_subsets(sorted(sizes))]
    calls = [None, *_runs(stretches, 1 if quick else len(stretches) - 1)]
    refinements = QUICK_REFINEMENTS if quick else REFINEMENTS
    return tuple(
        Recipe(resolutions=resolutions, calls=timesteps, refinement=refinement)
        for refinement, resolutions, timesteps in itertools.product(refinements, layers, calls)
    )


def with_recipe(config: RunConfig, recipe: Recipe) -> RunConfig:
    """The resolved configuration with the recipe in it.

    Raises:
        ValueError: the recipe does not fit the configuration's other settings.
    """
    return RunConfig.model_validate(merge(config.model_dump(mode="json"), recipe.sections))


def _proper_subsets(items: Iterable[int]) -> Iterator[tuple[int, ...]]:
    whole = tuple(items)
    for count in range(1, len(whole)):
        yield from itertools.combinations(whole, count)


def _runs(stretches: Sequence[Stretch], longest: int) -> Iterator[Stretch]:
    """Stretches that adjoin as one, at most so many together, but not all of them."""
    for count in range(1, min(longest, len(stretches) - 1) + 1):
        for start in range(len(stretches) - count + 1):
            yield stretches[start][0], stretches[start + count - 1][1]
