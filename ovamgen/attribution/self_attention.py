"""Self-attention of a drawing as a factor of heatmaps, or as an affinity that spreads them.

The published factor sums each row of a softmax, which is a constant (methods 2.6). Here are two
factors that carry information: the attention that a position *receives*, a column sum, and
self-attention exponentiation (Dataset Diffusion, NeurIPS 2023). Both are reduced call by call.
Dimension letters: `ovamgen.attribution.maps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.functional import interpolate

from ovamgen.attribution.interface import HeatmapMethod, HeatmapSink
from ovamgen.attribution.maps import MapSums, resize
from ovamgen.config import MaskConfig
from ovamgen.errors import MethodError

_CHUNK_ELEMENTS = 2**24
"""Softmax values held at once, 64 MB: a whole matrix of 64x64 positions and 8 heads has 2**27."""
_FLAT = 1e-5
"""A range below this fraction of the largest value is rounding, not attention."""


class ReceivedAttention:
    """A sink for the attention that each position receives: column sums of softmax(scale · Q Kᵀ).

    Summed over calls, heads and layers, layers resized to the largest. A row of the matrix sums to
    1, so a layer's mean is 1 per head at every resolution. State: (B, P) float32 for each one.
    """

    def __init__(self) -> None:
        self._sums = MapSums()

    @property
    def nbytes(self) -> int:
        """Bytes of the running sums."""
        return self._sums.nbytes

    def update_self(
        self,
        layer: int,
        queries: Float[Tensor, "B N P D"],
        keys: Float[Tensor, "B N P D"],
        size: tuple[int, int],
        scale: float,
    ) -> None:
        """Adds one self-attention layer of one UNet call."""
        received = sum(
            (part.sum((1, 2)) for _, part in _attention(queries, keys, scale)),
            start=torch.zeros((), device=queries.device),
        )
        self._sums.add(received[:, :, None], size, queries.shape[1])

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Ignores cross-attention."""

    def result(self) -> Float32[Tensor, "B h w"]:
        """Each image's map spread over [0, 1]; all ones where attention is even.

        Raises:
            MethodError: nothing was recorded.
        """
        total = self._sums.total()[:, 0]
        low, high = total.amin((1, 2), keepdim=True), total.amax((1, 2), keepdim=True)
        even = high - low <= _FLAT * high
        return torch.where(even, 1.0, (total - low) / torch.where(even, 1.0, high - low))


class AttentionAffinity:
    """A sink for the mean self-attention matrix at one resolution; its powers spread maps.

    State: (B, P, P) float32.

    Args:
        positions: the layers of the largest resolution of at most so many positions are averaged;
            all others are passed over.
        power: the exponent; Dataset Diffusion takes 4, at 32x32.
    """

    def __init__(self, *, positions: int, power: int) -> None:
        self._positions = positions
        self._power = power
        self._size: tuple[int, int] | None = None
        self._sum: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the running sum."""
        return 0 if self._sum is None else self._sum.nbytes

    @property
    def matrix(self) -> Float32[Tensor, "B P P"]:
        """The mean over calls, heads and layers; each row sums to 1.

        Raises:
            MethodError: no layer was small enough, or nothing was recorded.
        """
        if self._sum is None:
            raise MethodError(
                f"no self-attention of at most {self._positions} positions was recorded: make "
                "masks.self_attention_positions larger, or masks.self_attention none"
            )
        return self._sum / self._sum.sum(-1, keepdim=True)

    def update_self(
        self,
        layer: int,
        queries: Float[Tensor, "B N P D"],
        keys: Float[Tensor, "B N P D"],
        size: tuple[int, int],
        scale: float,
    ) -> None:
        """Adds one self-attention layer of one UNet call, where it has the resolution."""
        positions = size[0] * size[1]
        if positions > self._positions:
            return
        if self._size is not None and self._size != size:
            if positions <= self._size[0] * self._size[1]:
                return
            self._sum = None
        if self._sum is None:
            self._size = size
            self._sum = torch.zeros((queries.shape[0], positions, positions), device=queries.device)
        for start, part in _attention(queries, keys, scale):
            self._sum[:, start : start + part.shape[2]] += part.sum(1)

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Ignores cross-attention."""

    def spread(self, maps: Float32[Tensor, "B K h w"]) -> Float32[Tensor, "B K h w"]:
        """The maps multiplied by the matrix's power, in the range that they had.

        Each position takes the mean of what it attends to, so many times. Maps are averaged down to
        the matrix's resolution and resized back (bilinear).

        Raises:
            MethodError: there is no matrix.
        """
        matrix, size = self.matrix, self._size
        assert size is not None
        small = interpolate(maps, size=size, mode="area").flatten(2).mT
        for _ in range(self._power):
            small = matrix @ small
        spread = small.mT.reshape(*maps.shape[:2], *size)
        return resize(spread, (maps.shape[2], maps.shape[3]))


def self_attention_sink(masks: MaskConfig) -> ReceivedAttention | AttentionAffinity | None:
    """The sink that ``masks.self_attention`` needs beside a method's own, or None."""
    if masks.self_attention == "received":
        return ReceivedAttention()
    if masks.self_attention == "affinity":
        return AttentionAffinity(
            positions=masks.self_attention_positions, power=masks.self_attention_power
        )
    return None


class SelfAttended:
    """A method whose maps are refined by the self-attention of the same drawing.

    Args:
        method: makes the maps.
        settings: ``self_attention`` is ``received`` or ``affinity``.
    """

    def __init__(self, method: HeatmapMethod, settings: MaskConfig) -> None:
        self._method = method
        self._settings = settings

    def open(self, prompts: Sequence[str]) -> SelfAttendedSink:
        """A sink of the method's, with self-attention beside it."""
        attention = self_attention_sink(self._settings)
        assert attention is not None
        return SelfAttendedSink(self._method.open(prompts), attention)


class SelfAttendedSink:
    """Another sink's maps: spread by affinity, or with the received attention as their factor."""

    def __init__(self, sink: HeatmapSink, attention: ReceivedAttention | AttentionAffinity) -> None:
        self.sink = sink
        self._attention = attention
        # a recorder reads the timestep off the device for a sink that has this
        if begin_call := getattr(sink, "begin_call", None):
            self.begin_call = begin_call

    @property
    def maximum(self) -> float:
        """The inner sink's: neither kind makes a map larger."""
        return self.sink.maximum

    @property
    def nbytes(self) -> int:
        """Bytes of both parts' state."""
        return self.sink.nbytes + self._attention.nbytes

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Passes on one layer's queries of one UNet call."""
        self.sink.update(layer, queries, size)

    def update_self(
        self,
        layer: int,
        queries: Float[Tensor, "B N P D"],
        keys: Float[Tensor, "B N P D"],
        size: tuple[int, int],
        scale: float,
    ) -> None:
        """Adds one self-attention layer of one UNet call."""
        self._attention.update_self(layer, queries, keys, size, scale)

    def class_maps(self) -> Float32[Tensor, "B K h w"]:
        """Raw maps of all targets, spread where the kind is affinity.

        Raises:
            MethodError: nothing was recorded.
        """
        maps = self.sink.class_maps()
        if isinstance(self._attention, AttentionAffinity):
            return self._attention.spread(maps)
        return maps

    def problem(self, image: int, target: int) -> str | None:
        """Why there is no map of a target in an image, or None."""
        return self.sink.problem(image, target)

    def factor(self) -> Float32[Tensor, "B h w"] | None:
        """The received attention in [0, 1], of the maps' size; None where the kind is affinity.

        Raises:
            MethodError: nothing was recorded.
        """
        if isinstance(self._attention, AttentionAffinity):
            return None
        return self._attention.result()


def _attention(
    queries: Float[Tensor, "B N P D"], keys: Float[Tensor, "B N P D"], scale: float
) -> Iterator[tuple[int, Float32[Tensor, "B N C P"]]]:
    """Rows of the attention matrix from a first position on, as many as memory is spent on."""
    keys_turned = keys.float().mT
    positions = queries.shape[2]
    rows = max(1, _CHUNK_ELEMENTS // (queries.shape[0] * queries.shape[1] * positions))
    for start in range(0, positions, rows):
        part = scale * queries[:, :, start : start + rows].float()
        yield start, (part @ keys_turned).softmax(-1)
