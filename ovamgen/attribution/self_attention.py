"""Self-attention of a drawing as a factor of heatmaps, or as an affinity that spreads them.

The published factor sums each row of a softmax, which is a constant (methods 2.6). Here are two
things that carry information: the attention that a position *receives*, a column sum, and the
mean matrix of one resolution, by which maps are refined (`ovamgen.attribution.refinement`). Both
are reduced call by call. Dimension letters: `ovamgen.attribution.maps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ovamgen.attribution.interface import HeatmapMethod, HeatmapSink
from ovamgen.attribution.maps import MapSums
from ovamgen.attribution.refinement import refine
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
    """A sink for the mean self-attention matrix at one resolution, by which maps are refined.

    State: (B, P, P) float32.

    Args:
        settings: layers of the largest resolution of at most ``self_attention_positions`` positions
            are averaged, all others are passed over; the rest is `refine`'s.
    """

    def __init__(self, settings: MaskConfig) -> None:
        self._positions = settings.self_attention_positions
        self._settings = settings
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

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the resolution that was averaged.

        Raises:
            MethodError: as for `matrix`.
        """
        assert self.matrix is not None
        assert self._size is not None
        return self._size

    def refine(self, maps: Float32[Tensor, "B K h w"]) -> Float32[Tensor, "B K H W"]:
        """The maps refined by the matrix, as the settings say.

        Raises:
            MethodError: there is no matrix.
        """
        return refine(maps, self.matrix, self.size, self._settings)


def self_attention_sink(masks: MaskConfig) -> ReceivedAttention | AttentionAffinity | None:
    """The sink that ``masks.self_attention`` needs beside a method's own, or None."""
    if masks.self_attention == "received":
        return ReceivedAttention()
    if masks.self_attention in ("affinity", "iterated"):
        return AttentionAffinity(masks)
    return None


class SelfAttended:
    """A method whose maps are refined by the self-attention of the same drawing.

    Args:
        method: makes the maps.
        settings: ``self_attention`` is ``received``, ``affinity`` or ``iterated``.
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
    """Another sink's maps: refined by a matrix, or with the received attention as their factor."""

    def __init__(self, sink: HeatmapSink, attention: ReceivedAttention | AttentionAffinity) -> None:
        self.sink = sink
        self._attention = attention
        # a recorder reads the timestep off the device for a sink that has this
        if begin_call := getattr(sink, "begin_call", None):
            self.begin_call = begin_call

    @property
    def maximum(self) -> float:
        """The inner sink's: no kind makes a map larger."""
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
        """Raw maps of all targets, refined where a matrix was recorded.

        Raises:
            MethodError: nothing was recorded.
        """
        maps = self.sink.class_maps()
        if isinstance(self._attention, AttentionAffinity):
            return self._attention.refine(maps)
        return maps

    def problem(self, image: int, target: int) -> str | None:
        """Why there is no map of a target in an image, or None."""
        return self.sink.problem(image, target)

    def factor(self) -> Float32[Tensor, "B h w"] | None:
        """The received attention in [0, 1], at its largest layer's size; None with a matrix.

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
