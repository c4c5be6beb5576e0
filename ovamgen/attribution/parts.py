"""A drawing's attention kept apart by the size of layers and by stretches of UNet calls.

Class maps are sums over both, so those of any choice (`ovamgen.attribution.chosen_attention`) are
sums of parts: one drawing is enough to compare them all. Dimension letters:
`ovamgen.attribution.maps`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Float32
from torch import Tensor

from ovamgen.attribution.interface import HeatmapSink
from ovamgen.attribution.maps import add_resized
from ovamgen.errors import ConfigError, MethodError

Part = tuple[int, int]
"""The cells of the layers' shorter side, and the number of the stretch of calls."""


@dataclass(frozen=True, slots=True, eq=False)
class PartialMaps:
    """Raw class maps of one part."""

    maps: Float32[Tensor, "B K h w"]
    maximum: float
    """The largest value that a map could have."""


class AttentionParts:
    """A sink that has a sink of its own for every part.

    Args:
        open_sink: opens a method's sink; the method must sum over layers and calls, as ``ovam``
            does.
        stretches: of timesteps, each by its lowest and its highest, as ``attribution.calls``.
    """

    def __init__(
        self, open_sink: Callable[[], HeatmapSink], stretches: Sequence[tuple[int, int]]
    ) -> None:
        self._open = open_sink
        self._stretches = tuple(stretches)
        self._stretch = 0
        self.highest = 0.0
        """The highest timestep of a UNet call."""
        self._sinks: dict[Part, HeatmapSink] = {}

    def begin_call(self, timestep: float) -> None:
        """Notes the stretch that a UNet call belongs to.

        Raises:
            ConfigError: it belongs to none.
        """
        found = [n for n, (low, high) in enumerate(self._stretches) if low <= timestep <= high]
        if not found:
            raise ConfigError(
                f"the UNet was called at timestep {timestep:g}, which lies in none of the "
                f"stretches {', '.join(f'{low} to {high}' for low, high in self._stretches)}: "
                "use a scheduler of whole timesteps, such as PNDM or DDIM"
            )
        self._stretch = found[0]
        self.highest = max(self.highest, timestep)

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Passes one layer's queries of one UNet call on to the part that they belong to."""
        part = (min(size), self._stretch)
        if part not in self._sinks:
            self._sinks[part] = self._open()
        self._sinks[part].update(layer, queries, size)

    def parts(self) -> dict[Part, PartialMaps]:
        """The maps of all parts that had a call."""
        return {
            part: PartialMaps(sink.class_maps(), sink.maximum)
            for part, sink in sorted(self._sinks.items())
        }


class SummedParts(HeatmapSink):
    """Some parts as the sink that would have been given them alone.

    Args:
        parts: of one drawing.
        resolutions: the layers to sum, as ``attribution.resolutions``; all where empty.
        stretches: numbers of the stretches of calls to sum; all where None.

    Raises:
        MethodError: there is no such part.
    """

    def __init__(
        self,
        parts: Mapping[Part, PartialMaps],
        resolutions: Iterable[int] = (),
        stretches: Iterable[int] | None = None,
    ) -> None:
        sizes = set(resolutions)
        calls = {call for _, call in parts} if stretches is None else set(stretches)
        chosen = [
            parts[cells, stretch]
            for cells, stretch in sorted(parts, reverse=True)
            if (not sizes or cells in sizes) and stretch in calls
        ]
        if not chosen:
            raise MethodError(
                f"no attention was recorded of the layers {sorted(sizes)} in the stretches "
                f"{sorted(calls)} of calls"
            )
        self._maps = add_resized([part.maps for part in chosen])
        self._maximum = sum(part.maximum for part in chosen)

    @property
    def maximum(self) -> float:
        """Calls · heads, summed over the layers."""
        return self._maximum

    @property
    def nbytes(self) -> int:
        """Bytes of the sum."""
        return self._maps.nbytes

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Takes nothing more."""
        raise MethodError("these maps are of a drawing that is over")

    def class_maps(self) -> Float32[Tensor, "B K h w"]:
        """Raw maps of all targets."""
        return self._maps
