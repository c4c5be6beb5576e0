"""Every query of a drawing, kept: for token optimisation and as the yardstick of online sums.

Memory grows with calls: B · N · P · D numbers a layer and call, which for Stable Diffusion 1.5 at
512x512 is 46 MB a call and image in float32, 1.4 GB for 30 steps. Use the sinks of
`ovamgen.attribution.ovam` to make heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ovamgen.attribution.interface import AttentionLayer
from ovamgen.attribution.maps import resize
from ovamgen.errors import MethodError


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


def evaluate(
    stored: StoredQueries,
    layers: Sequence[AttentionLayer],
    rows: Float32[Tensor, "L ctx"],
) -> Float32[Tensor, "B L h w"]:
    """Raw OVAM maps of one attribution matrix, differentiable in its rows (methods 2.2).

    Args:
        stored: what the sink kept of a drawing.
        layers: the cross-attention layers, in the recorder's order.
        rows: L rows of the model's text width.

    Raises:
        MethodError: nothing was recorded.
    """
    if not stored.calls:
        raise MethodError("no attention was recorded: evaluate queries after a drawing")
    keys = {layer: layers[layer].project_keys(rows) for layer in {c.layer for c in stored.calls}}
    sums: dict[tuple[int, int], Tensor] = {}
    for call in stored.calls:
        scores = layers[call.layer].scale * call.queries.float() @ keys[call.layer].mT
        values = scores.softmax(-1).sum(1)
        sums[call.size] = sums[call.size] + values if call.size in sums else values
    largest = max(sums, key=lambda size: (size[0] * size[1], size))
    maps = [
        resize(total.mT.reshape(*total.mT.shape[:2], *size), largest)
        for size, total in sums.items()
    ]
    return torch.stack(maps).sum(0)
