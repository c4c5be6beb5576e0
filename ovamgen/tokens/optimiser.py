"""Token optimisation: a pair of attribution rows learnt against annotated images (methods 2.5).

OVAM (arXiv 2403.14291), supplementary A.1: with the queries of a drawing fixed, the pair
[background row, class row] is trained so that the class's map becomes the annotation. This module
knows tensors; which images, classes and files is decided elsewhere. Dimension letters:
`ovamgen.attribution.maps`, with M = calls · P positions of one layer over all calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, cross_entropy

from ovamgen.attribution.interface import AttentionLayer
from ovamgen.attribution.maps import resize
from ovamgen.attribution.stored import StoredQueries
from ovamgen.errors import ConfigError, MethodError, SampleError

Loss = Literal["binary-cross-entropy", "cross-entropy"]
Normalisation = Literal["maximum", "joint-min-max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserSettings:
    """How a pair is learnt; the published values are in ``presets/tokens``."""

    loss: Loss
    """``binary-cross-entropy``: per channel (supplementary A.1). ``cross-entropy``: of the softmax
    over both channels with soft targets, which the released code ends up with."""
    normalisation: Normalisation
    """``maximum``: divided by calls · heads, summed over the layers. ``joint-min-max``: both
    channels of an image together to [0, 1]; gradients flow through minimum and maximum."""
    learning_rate: float
    """Learning rate of plain SGD."""
    decay: float
    """Factor of the learning rate every `decay_every` steps."""
    decay_every: int
    steps: int

    def __post_init__(self) -> None:
        """Refuses settings that cannot train.

        Raises:
            ConfigError: a number out of its range, by name.
        """
        rules = {
            "steps": self.steps >= 1,
            "decay_every": self.decay_every >= 1,
            "learning_rate": self.learning_rate > 0 and np.isfinite(self.learning_rate),
            "decay": 0 < self.decay <= 1,
        }
        for name, holds in rules.items():
            if not holds:
                raise ConfigError(
                    f"{name} must be {'in (0, 1]' if name == 'decay' else 'positive'}, got "
                    f"{getattr(self, name)}"
                )


class PairScores:
    """The class map of any pair on one drawn image, differentiable in the pair.

    The softmax over two rows is a sigmoid of the difference of their scores (methods 2.4), and
    keys are linear in the rows: one product of a layer's queries, of all calls at once, with one
    vector a head.

    Args:
        stored: the queries of one drawing of one image; they are moved out of it layer by layer,
            so that they are in memory about once.
        layers: the cross-attention layers, in the recorder's order.

    Raises:
        MethodError: nothing was recorded, or several images were.
    """

    def __init__(self, stored: StoredQueries, layers: Sequence[AttentionLayer]) -> None:
        if not stored.calls:
            raise MethodError("no attention was recorded: optimise tokens on a drawing")
        images = stored.calls[0].queries.shape[0]
        if images != 1:
            raise MethodError(
                f"tokens are optimised on drawings of one image each, got a batch of {images}"
            )
        self.maximum = float(stored.maximum)
        """Calls · heads, summed over the layers."""
        self._layers = layers
        self._queries: list[tuple[int, tuple[int, int], Float32[Tensor, "N M D"]]] = []
        for index in sorted({call.layer for call in stored.calls}):
            calls = [call for call in stored.calls if call.layer == index]
            stored.calls = [call for call in stored.calls if call.layer != index]
            stacked = torch.cat([call.queries[0].float() for call in calls], dim=1)
            self._queries.append((index, calls[0].size, stacked))
        sizes = {size for _, size, _ in self._queries}
        self.size = max(sizes, key=lambda size: (size[0] * size[1], size))
        """(height, width) of the largest layer, in cells."""

    @property
    def nbytes(self) -> int:
        """Bytes of the queries."""
        return sum(queries.nbytes for _, _, queries in self._queries)

    def class_map(self, pair: Float32[Tensor, "2 ctx"]) -> Float32[Tensor, "h w"]:
        """The raw map of the pair's second row, in [0, maximum]; the first row's is the rest."""
        sums: dict[tuple[int, int], Tensor] = {}
        for index, size, queries in self._queries:
            layer = self._layers[index]
            keys = layer.project_keys(pair)
            difference = layer.scale * (keys[:, 1] - keys[:, 0])
            # a product a head: on CPU a batched product with one column is five times slower
            scores = [torch.mv(*head) for head in zip(queries, difference, strict=True)]
            total = torch.stack(scores).sigmoid().reshape(-1, size[0] * size[1]).sum(0)
            sums[size] = sums[size] + total if size in sums else total
        maps = [resize(total.reshape(1, 1, *size), self.size) for size, total in sums.items()]
        return torch.cat(maps).sum((0, 1))


@runtime_checkable
class AnnotatedImage(Protocol):
    """What a pair is trained on."""

    def loss(
        self, pair: Float32[Tensor, "2 ctx"], settings: OptimiserSettings
    ) -> Float32[Tensor, ""]:
        """How far the pair's maps are from the annotation."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedScores:
    """One drawn image with its annotation."""

    scores: PairScores
    mask: Float32[Tensor, "H W"]
    """1 on the object, 0 elsewhere, of the image's size, on the device of the queries."""

    def channels(self, pair: Float32[Tensor, "2 ctx"]) -> Float32[Tensor, "1 2 H W"]:
        """Raw maps [background, class] at the image's size."""
        height, width = self.mask.shape
        class_map = resize(self.scores.class_map(pair)[None, None], (height, width))
        return torch.cat([self.scores.maximum - class_map, class_map], dim=1)

    def loss(
        self, pair: Float32[Tensor, "2 ctx"], settings: OptimiserSettings
    ) -> Float32[Tensor, ""]:
        """How far the pair's maps are from the annotation."""
        target = torch.stack([1 - self.mask, self.mask])[None]
        return map_loss(self.channels(pair), target, self.scores.maximum, settings)


def map_loss(
    channels: Float32[Tensor, "1 2 H W"],
    target: Float32[Tensor, "1 2 H W"],
    maximum: float,
    settings: OptimiserSettings,
) -> Float32[Tensor, ""]:
    """The loss of raw maps, mean over pixels (methods 2.5, 2.7 check 8).

    For maps that are the target, 0 with ``binary-cross-entropy`` and log(1 + 1/e) = 0.3133 with
    ``cross-entropy``, whose softmax takes values of 0 and 1 for logits.

    Args:
        channels: raw maps [background, class].
        target: [1 - mask, mask].
        maximum: the largest value that a raw map could have.
        settings: loss and normalisation.
    """
    if settings.normalisation == "maximum":
        # sums of many softmax values may be a rounding above the maximum
        scaled = (channels / maximum).clamp(0, 1)
    else:
        low, high = channels.min(), channels.max()
        scaled = (channels - low) / (high - low)
    if settings.loss == "binary-cross-entropy":
        return binary_cross_entropy(scaled, target)
    return cross_entropy(scaled, target)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OptimisedPair:
    """What an optimisation ended in."""

    best: Float32[Tensor, "2 ctx"]
    """The rows of the lowest loss that was seen."""
    best_step: int
    """How many steps led to them."""
    final: Float32[Tensor, "2 ctx"]
    """The rows after the last step."""
    losses: Float64[np.ndarray, " steps"]
    """Before each step, mean over the images."""


def optimise_pair(
    images: Sequence[AnnotatedImage],
    initial: Float32[Tensor, "2 ctx"],
    settings: OptimiserSettings,
    on_step: Callable[[int, float], None] | None = None,
) -> OptimisedPair:
    """The pair that plain SGD finds from the initial one; both rows are trained (methods 2.5).

    Args:
        images: at least one; with several, the mean of their losses is lowered, which is an
            extension of the paper.
        initial: [`<SoT>` row, row of the class's last sub-token].
        settings: loss, normalisation and schedule.
        on_step: told each step's number, from 0, and the loss before it.

    Raises:
        MethodError: no images.
        SampleError: the loss is not finite: a constant map under min-max, or a rate too large.
    """
    if not images:
        raise MethodError("a pair is optimised on at least one annotated image, got none")
    rows = initial.detach().clone().requires_grad_()
    # StepLR and SGD without momentum, in the published order: the loss is of the rows before
    optimiser = torch.optim.SGD([rows], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, settings.decay_every, settings.decay)
    losses: list[float] = []
    best, best_step = initial, 0
    for step in range(settings.steps):
        optimiser.zero_grad()
        value = 0.0
        for image in images:
            # image by image: only one graph is held at a time
            loss = image.loss(rows, settings) / len(images)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            value += loss.item()
        if not np.isfinite(value):
            raise SampleError(
                f"finite losses expected, got {value} at step {step}: use a smaller learning rate "
                f"than {settings.learning_rate:g} (--lr)"
            )
        if not losses or value < min(losses):
            best, best_step = rows.detach().clone(), step
        losses.append(value)
        if on_step is not None:
            on_step(step, value)
        optimiser.step()
        schedule.step()
    return OptimisedPair(
        best=best, best_step=best_step, final=rows.detach().clone(), losses=np.array(losses)
    )
