"""What a heatmap method is given and what it must give: the seam between drawing and attribution.

Everything here is structural: a pipeline's layers and encoder fit without knowing this module. To
add a method, write a `HeatmapMethod` and its `HeatmapSink` in a file of this package and a line in
`ovamgen.config.METHODS`. Dimension letters: `ovamgen.attribution.maps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32
from torch import Tensor


@runtime_checkable
class AttentionLayer(Protocol):
    """What attribution asks of a cross-attention layer."""

    @property
    def heads(self) -> int:
        """N."""

    @property
    def scale(self) -> float:
        """Factor of the scores, head_dim ** -0.5."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the queries."""

    def project_keys(self, rows: Float[Tensor, "L ctx"]) -> Float32[Tensor, "N L D"]:
        """The layer's keys of attribution rows."""


@runtime_checkable
class EncodedText(Protocol):
    """A text as rows of the text encoder, `<SoT>` first."""

    @property
    def rows(self) -> Float32[Tensor, "L ctx"]:
        """The encoder's output."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The sub-token of each row."""

    def last_subtoken(self) -> int:
        """Row of the last sub-token before `<EoT>`."""


@runtime_checkable
class AttributedModel(Protocol):
    """The model whose attention is read."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def context_width(self) -> int:
        """Width of a row of its text encoder (ctx)."""

    @property
    def layers(self) -> Sequence[AttentionLayer]:
        """The cross-attention layers, in the order in which a sink numbers them."""

    def check_self_attention(self) -> None:
        """Checks that the self-attention beside those layers can be recorded.

        Raises:
            MethodError: it cannot.
        """

    def encode(self, text: str, *, padded: bool = False, cut: bool = False) -> EncodedText:
        """A text by the model's own encoder.

        Args:
            text: any text.
            padded: with padding rows up to the encoder's length.
            cut: leave off what exceeds that length, as drawing does, rather than refuse it.
        """


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClassTarget:
    """One class as attribution rows, and which row's map is the class's (methods 2.4)."""

    name: str
    rows: Float32[Tensor, "L ctx"]
    """An optimised pair [background, class], or an encoded phrase."""
    channel: int
    """1 for a pair, the last sub-token for a phrase."""
    phrase: str = ""
    """The words that a method looks for where it needs the class to be named in the prompt."""

    @property
    def is_pair(self) -> bool:
        """The rows are [background, class]; an encoded phrase has three rows or more."""
        return len(self.rows) == 2 and self.channel == 1


@runtime_checkable
class HeatmapSink(Protocol):
    """Takes the queries of one batch while it is drawn, and has its class maps afterwards.

    What a sink wants of a drawing is what it has methods for: the recorder (`ovamgen.diffusion.
    recorder`) calls ``update`` for each cross-attention layer, and where a sink has them

    - ``begin_call(timestep)`` before each UNet call, for which the device is waited for;
    - ``update_self(layer, queries, keys, size, scale)`` for the self-attention beside each layer.

    Tensors are views that the next operation may overwrite. A sink that derives from this class
    has neither problems nor a factor until it says otherwise.
    """

    @property
    def maximum(self) -> float:
        """The largest value that a raw map could have."""

    @property
    def nbytes(self) -> int:
        """Bytes that the sink holds between two UNet calls."""

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Takes one layer's queries of one UNet call."""

    def class_maps(self) -> Float32[Tensor, "B K h w"]:
        """Raw maps of all targets, at the resolution of the largest layer."""

    def problem(self, image: int, target: int) -> str | None:
        """Why there is no map of a target in an image, all zero in `class_maps`; or None."""
        return None

    def factor(self) -> Float32[Tensor, "B h w"] | None:
        """What normalised maps are multiplied by once it has their size, in [0, 1]; or None."""
        return None


@runtime_checkable
class HeatmapMethod(Protocol):
    """A way to make heatmaps; one for all batches of a run."""

    def open(self, prompts: Sequence[str]) -> HeatmapSink:
        """A sink for the batch that draws these generation prompts."""
