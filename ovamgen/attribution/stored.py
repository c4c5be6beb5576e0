"""Every query of a drawing, kept: for token optimisation.

Memory grows with calls: B · N · P · D numbers a layer and call, which for Stable Diffusion 1.5 at
512x512 is 46 MB a call and image in float32, 1.4 GB for 30 steps. Use the sinks of
`ovamgen.attribution.ovam` to make heatmaps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LayerQueries:
    """The queries of one layer in one UNet call."""

    layer: int
    size: tuple[int, int]
    queries: Float[Tensor, "B N P D"]


@dataclass(eq=False)
class StoredQueries:
    """A sink that keeps a copy of everything, in the order in which it came."""

    calls: list[LayerQueries] = field(default_factory=list)

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Keeps a copy of one layer's queries of one UNet call."""
        # heads before positions, so that later products read memory in order
        copied = queries.clone(memory_format=torch.contiguous_format)
        self.calls.append(LayerQueries(layer=layer, size=size, queries=copied))

    @property
    def nbytes(self) -> int:
        """Bytes of all copies."""
        return sum(call.queries.nbytes for call in self.calls)

    @property
    def maximum(self) -> int:
        """Calls · heads, summed over the layers: what the maps of one matrix sum to."""
        return sum(call.queries.shape[1] for call in self.calls)
