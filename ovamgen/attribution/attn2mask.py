"""Attn2Mask (arXiv 2309.01369) as the OVAM paper replicated it: the attention of one UNet call.

OVAM's maps with the sum over calls replaced by the call half-way through sampling: index 50 of the
101 calls of 100 PNDM steps, at timestep 501 (methods 4). The call is found by its timestep, so that
it means the same with another scheduler, other steps, or where drawing begins half-way (image to
image): the nearest call is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Float32
from torch import Tensor

from ovamgen.attribution.interface import AttributedModel, ClassTarget, HeatmapSink
from ovamgen.attribution.ovam import Ovam, OvamSink

TIMESTEP = 501.0
"""Timestep of call index 50 of 100 PNDM steps (methods 0.3)."""


class Attn2Mask:
    """The method `attn2mask`: optimised pairs or class phrases, as for OVAM (methods 4).

    Args:
        model: whose attention is read.
        targets: as for `ovamgen.attribution.ovam.Ovam`.

    Raises:
        MethodError: no targets.
    """

    def __init__(self, model: AttributedModel, targets: Sequence[ClassTarget]) -> None:
        self._ovam = Ovam(model, targets)

    def open(self, prompts: Sequence[str]) -> Attn2MaskSink:
        """A sink for one batch; what the prompts say does not matter."""
        return Attn2MaskSink(self._ovam.open(prompts))


class Attn2MaskSink(HeatmapSink):
    """Class maps of one UNet call alone: the first of those nearest to `TIMESTEP`.

    The state is that of one call, however many there are.

    Args:
        ovam: takes the queries of the calls that are kept for as long as no nearer one comes.
    """

    def __init__(self, ovam: OvamSink) -> None:
        self.timestep: float | None = None
        """Timestep of the call that the maps are of; None before the first call."""
        self.call: int | None = None
        """Its index, from 0."""
        self._ovam = ovam
        self._calls = 0
        self._taken = False

    @property
    def maximum(self) -> float:
        """Heads, summed over the layers."""
        return self._ovam.maximum

    @property
    def nbytes(self) -> int:
        """Bytes of one call's maps."""
        return self._ovam.nbytes

    def begin_call(self, timestep: float) -> None:
        """Decides whether the queries that follow are kept."""
        self._taken = self.timestep is None or _distance(timestep) < _distance(self.timestep)
        if self._taken:
            self._ovam.maps.clear()
            self.timestep, self.call = timestep, self._calls
        self._calls += 1

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Adds one layer's maps, where its call is kept."""
        if self._taken:
            self._ovam.update(layer, queries, size)

    def class_maps(self) -> Float32[Tensor, "B K h w"]:
        """Raw maps of all targets.

        Raises:
            MethodError: nothing was recorded.
        """
        return self._ovam.class_maps()


def _distance(timestep: float) -> float:
    return abs(timestep - TIMESTEP)
