"""The part of a drawing's attention that a method is given: some layers, some UNet calls.

Published recipes read less than all of it: 16x16 layers alone are best for words (OVAM, ablation
of its supplementary; methods 10), Dataset Diffusion reads those at 16.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ovamgen.config import AttributionConfig
from ovamgen.console.wording import listed
from ovamgen.errors import ConfigError


@runtime_checkable
class QuerySink(Protocol):
    """What takes queries, and whatever else of a `ovamgen.attribution.interface.HeatmapSink`."""

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Takes one layer's queries of one UNet call."""


class ChosenAttention:
    """Passes on to a sink what the settings choose, and nothing else.

    Layers are told by the cells of their shorter side. Only cross-attention is chosen from: what is
    read of self-attention is a matter of ``masks.self_attention``.

    Args:
        sink: what is fed; its maps are asked of itself.
        settings: ``resolutions`` and ``calls``, one of them given at least.
    """

    def __init__(self, sink: QuerySink, settings: AttributionConfig) -> None:
        self._sink = sink
        self._resolutions = settings.resolutions
        self._calls = settings.calls
        self._taken = True
        self._seen: set[int] = set()
        self._timesteps: list[float] = []
        # a recorder does more for a sink that has these
        self._told: Any = getattr(sink, "begin_call", None)
        if self._calls is not None or self._told is not None:
            self.begin_call = self._begin_call
        if update_self := getattr(sink, "update_self", None):
            self.update_self = update_self

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Passes on one layer's queries of one UNet call, where both are chosen."""
        self._seen.add(min(size))
        if self._taken and (not self._resolutions or min(size) in self._resolutions):
            self._sink.update(layer, queries, size)

    def check(self) -> None:
        """Checks, after a drawing, that what was chosen was there.

        Raises:
            ConfigError: a resolution that no layer has, or no call between the two timesteps.
        """
        if absent := [size for size in self._resolutions if size not in self._seen]:
            there = listed([str(size) for size in sorted(self._seen)])
            raise ConfigError(
                f"attribution.resolutions names {absent[0]}, and the layers of this drawing have "
                f"{there} cells on their shorter side: name some of these, or none for all"
            )
        if self._calls is not None and not any(map(self._is_chosen, self._timesteps)):
            low, high = self._calls
            raise ConfigError(
                f"attribution.calls chooses timesteps from {low} to {high}, and the UNet was "
                f"called at {max(self._timesteps):g} to {min(self._timesteps):g}"
            )

    def _begin_call(self, timestep: float) -> None:
        self._timesteps.append(timestep)
        self._taken = self._is_chosen(timestep)
        if self._taken and self._told is not None:
            self._told(timestep)

    def _is_chosen(self, timestep: float) -> bool:
        return self._calls is None or self._calls[0] <= timestep <= self._calls[1]


def chosen(sink: QuerySink, settings: AttributionConfig) -> QuerySink:
    """What a recorder is to feed for a sink: itself where all attention is read."""
    if not settings.resolutions and settings.calls is None:
        return sink
    return ChosenAttention(sink, settings)


def check_chosen(fed: QuerySink) -> None:
    """As `ChosenAttention.check`; nothing where all attention is read."""
    if isinstance(fed, ChosenAttention):
        fed.check()
