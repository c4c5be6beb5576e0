"""OVAM (arXiv 2403.14291, CVPR 2024): attention of a drawn image to any attribution rows.

Scores are taken between the queries of the drawing and keys of rows that need not be in its
prompt, with a softmax over those rows alone (methods 2.2). Maps are reduced call by call: the
state does not grow with the number of calls. Dimension letters: `ovamgen.attribution.maps`.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ovamgen.attribution.interface import (
    AttentionLayer,
    AttributedModel,
    ClassTarget,
    HeatmapSink,
)
from ovamgen.attribution.maps import MapSums
from ovamgen.errors import MethodError


class PairMaps:
    """A sink for class maps of optimised pairs, each [background row, class row].

    The softmax over two rows is a sigmoid of the difference of their scores, so the class map is
    ``sigmoid(scale * Q · (to_k class - to_k background))``: one matrix product a layer (methods
    2.4, 2.7 check 5). Products are of the queries' dtype, sums float32; the difference of keys is
    taken before it is rounded. State: (B, K, P) float32 for each resolution. The background's map
    is ``sums.maximum`` minus the class map.

    Args:
        layers: the cross-attention layers, in the recorder's order.
        pairs: K pairs of rows of the model's text width.

    Raises:
        MethodError: no pairs.
    """

    def __init__(self, layers: Sequence[AttentionLayer], pairs: Float32[Tensor, "K 2 ctx"]) -> None:
        if not len(pairs):
            raise MethodError("pair maps need at least one pair of rows, got none")
        self.sums = MapSums()
        self._keys: list[Float[Tensor, "N D K"]] = []
        for layer in layers:
            keys = layer.project_keys(pairs.flatten(0, 1))
            difference = layer.scale * (keys[:, 1::2] - keys[:, 0::2])
            self._keys.append(difference.mT.to(layer.dtype).contiguous())

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Adds one layer's class maps of one UNet call."""
        scores = _scores(queries, self._keys[layer])
        self.sums.add(_sum_heads(scores.sigmoid_(), queries), size, queries.shape[1])

    def clear(self) -> None:
        """Forgets what was added."""
        self.sums = MapSums()

    def result(self) -> Float32[Tensor, "B K h w"]:
        """Raw class maps: sums over calls, heads and layers, in [0, sums.maximum].

        Raises:
            MethodError: nothing was recorded.
        """
        return self.sums.total()


class TextMaps:
    """A sink for maps of attribution texts, the softmax over each text's own rows (methods 2.2).

    All texts share one matrix product a layer. State: (B, sum of lengths, P) float32 for each
    resolution.

    Args:
        layers: the cross-attention layers, in the recorder's order.
        texts: one matrix of L_i rows for each text, as the text encoder gives them without
            padding (padding changes the softmax), or any rows of the model's text width.

    Raises:
        MethodError: no texts, or one without rows.
    """

    def __init__(
        self,
        layers: Sequence[AttentionLayer],
        texts: Sequence[Float32[Tensor, "_ ctx"]],
    ) -> None:
        self._lengths = [len(text) for text in texts]
        if not self._lengths or 0 in self._lengths:
            raise MethodError(
                f"text maps need at least one text of at least one row, got lengths {self._lengths}"
            )
        # texts of equal length lie side by side, so that one softmax serves all of them
        self._order = sorted(range(len(texts)), key=self._lengths.__getitem__)
        self._groups = _runs(self._lengths[index] for index in self._order)
        rows = torch.cat([texts[index] for index in self._order])
        self.sums = MapSums()
        self._keys: list[Float32[Tensor, "N D L"]] = [
            (layer.scale * layer.project_keys(rows)).mT.contiguous() for layer in layers
        ]

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Adds one layer's maps of one UNet call."""
        scores = _scores(queries, self._keys[layer])
        parts = scores.split_with_sizes([length * count for length, count in self._groups], -1)
        values = [
            _sum_heads(part.reshape(*part.shape[:-1], count, length).softmax(-1), queries)
            for part, (length, count) in zip(parts, self._groups, strict=True)
        ]
        self.sums.add(torch.cat(values, dim=-1), size, queries.shape[1])

    def clear(self) -> None:
        """Forgets what was added."""
        self.sums = MapSums()

    def result(self) -> list[Float32[Tensor, "B _ h w"]]:
        """Raw maps of each text, (B, L_i, h, w): sums over calls, heads and layers.

        The maps of one text sum to ``sums.maximum`` in every cell (2.7 check 1).

        Raises:
            MethodError: nothing was recorded.
        """
        total = self.sums.total()
        parts: dict[int, Tensor] = {}
        start = 0
        for index in self._order:
            parts[index] = total[:, start : start + self._lengths[index]]
            start += self._lengths[index]
        return [parts[index] for index in range(len(parts))]


class ChosenMaps:
    """A sink for one row's map of each text, as `TextMaps` has it, without those of its other rows.

    A row's softmax value is ``sigmoid(-logsumexp(other scores - its own))``, and differences of
    keys are taken before they are rounded. For halves: products are of the queries' dtype, sums
    float32. State: (B, K, P) float32 for each resolution.

    Args:
        layers: the cross-attention layers, in the recorder's order.
        texts: K matrices, each of two rows or more.
        channels: the row of each text whose map is kept.

    Raises:
        MethodError: no texts, or one of less than two rows.
    """

    def __init__(
        self,
        layers: Sequence[AttentionLayer],
        texts: Sequence[Float32[Tensor, "_ ctx"]],
        channels: Sequence[int],
    ) -> None:
        lengths = [len(text) for text in texts]
        if min(lengths, default=0) < 2:
            raise MethodError(
                f"maps of chosen rows need texts of at least two rows, got lengths {lengths}"
            )
        self._order = sorted(range(len(texts)), key=lengths.__getitem__)
        self._groups = _runs(lengths[index] - 1 for index in self._order)
        # the first other row of all texts of a length, then the second: each is one slice
        chosen: list[int] = []
        others: list[int] = []
        starts = [0, *itertools.accumulate(lengths)]
        for length, members in itertools.groupby(self._order, key=lengths.__getitem__):
            alike = list(members)
            for step in range(1, length):
                chosen += [starts[index] + channels[index] for index in alike]
                others += [starts[index] + (channels[index] + step) % length for index in alike]
        rows = torch.cat(list(texts))
        self.sums = MapSums()
        self._keys: list[Float[Tensor, "N D M"]] = []
        for layer in layers:
            keys = layer.project_keys(rows)
            difference = layer.scale * (keys[:, others] - keys[:, chosen])
            self._keys.append(difference.mT.to(layer.dtype).contiguous())

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Adds one layer's maps of one UNet call."""
        scores = _scores(queries, self._keys[layer])
        parts = scores.split_with_sizes([others * count for others, count in self._groups], -1)
        values = []
        for part, (others, _) in zip(parts, self._groups, strict=True):
            total = functools.reduce(torch.logaddexp, part.chunk(others, -1))
            values.append(_sum_heads(total.neg_().sigmoid_(), queries))
        self.sums.add(torch.cat(values, dim=-1), size, queries.shape[1])

    def clear(self) -> None:
        """Forgets what was added."""
        self.sums = MapSums()

    def result(self) -> Float32[Tensor, "B K h w"]:
        """Raw maps of the chosen rows: sums over calls, heads and layers, in [0, sums.maximum].

        Raises:
            MethodError: nothing was recorded.
        """
        maps = dict(zip(self._order, self.sums.total().unbind(1), strict=True))
        return torch.stack([maps[index] for index in range(len(maps))], dim=1)


class Ovam:
    """The method `ovam`: optimised pairs, or class phrases as natural text (methods 2.4).

    Args:
        model: whose attention is read.
        targets: pairs (two rows, channel 1) are summed as sigmoids; anything else goes through a
            softmax over each target's own rows. On halves that one is computed from differences;
            on float32 it stays as it was, for the last bits of corpora that were begun.

    Raises:
        MethodError: no targets.
    """

    def __init__(self, model: AttributedModel, targets: Sequence[ClassTarget]) -> None:
        if not targets:
            raise MethodError("heatmaps need at least one class, got none")
        layers, rows = model.layers, [target.rows for target in targets]
        self._channels = tuple(target.channel for target in targets)
        self._maps: PairMaps | ChosenMaps | TextMaps
        if all(target.is_pair for target in targets):
            self._maps = PairMaps(layers, torch.stack(rows))
        elif layers[0].dtype == torch.float32:
            self._maps = TextMaps(layers, rows)
        else:
            self._maps = ChosenMaps(layers, rows, self._channels)

    def open(self, prompts: Sequence[str]) -> OvamSink:
        """A sink for one batch; what the prompts say does not matter to OVAM."""
        maps = copy.copy(self._maps)  # keys are the same for all batches
        maps.clear()
        return OvamSink(maps, self._channels)


class OvamSink(HeatmapSink):
    """Class maps of one batch, from pairs or from one channel of each text."""

    def __init__(
        self, maps: PairMaps | ChosenMaps | TextMaps, channels: tuple[int, ...] = ()
    ) -> None:
        self.maps = maps
        self._channels = channels

    @property
    def maximum(self) -> float:
        """Calls · heads, summed over the layers."""
        return float(self.maps.sums.maximum)

    @property
    def nbytes(self) -> int:
        """Bytes of the running sums; the number of calls does not change them."""
        return self.maps.sums.nbytes

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Adds one layer's maps of one UNet call."""
        self.maps.update(layer, queries, size)

    def class_maps(self) -> Float32[Tensor, "B K h w"]:
        """Raw maps of all targets.

        Raises:
            MethodError: nothing was recorded.
        """
        if not isinstance(self.maps, TextMaps):
            return self.maps.result()
        chosen = zip(self.maps.result(), self._channels, strict=True)
        return torch.stack([maps[:, channel] for maps, channel in chosen], dim=1)


def _scores(
    queries: Float[Tensor, "B N P D"], keys: Float[Tensor, "N D K"]
) -> Float[Tensor, "N B*P K"]:
    """Scores, heads first: one product per head over the positions of all images (2.2)."""
    by_head = queries.transpose(0, 1).flatten(1, 2)
    return torch.bmm(by_head.to(keys.dtype), keys)


def _sum_heads(
    values: Float[Tensor, "N BP *K"], queries: Float[Tensor, "B N P D"]
) -> Float32[Tensor, "B P K"]:
    total = values.sum(0, dtype=torch.float32)
    return total.reshape(queries.shape[0], queries.shape[2], -1)


def _runs(lengths: Iterable[int]) -> list[tuple[int, int]]:
    """(length, how many follow each other) of sorted lengths."""
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return runs
