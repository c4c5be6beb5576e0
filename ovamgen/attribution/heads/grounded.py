"""Grounded Diffusion's network: text queries look at block features and become masks.

Li et al., Open-vocabulary Object Segmentation with Diffusion Models, ICCV 2023 (methods 5.2),
written from its description. It does not know where features and queries come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import unfold

from ovamgen.attribution.heads.pyramid import FeaturePyramid, Levels, Mlp, reducing_weights, resize


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundedShape:
    """Sizes of the network; the defaults are those of the published one for SD 1.x."""

    channels: tuple[int, ...] = (15360, 14080, 8320, 5120)
    """Channels of each level's features, coarsest first, both halves of the guided batch."""
    widths: tuple[int, ...] = (16, 32, 64, 128)
    """Channels that each level is reduced to."""
    text_width: int = 768
    width: int = 512
    """Channels of the fusion decoder."""
    feedforward: int = 2048
    heads: int = 8
    layers: int = 3
    patch: int = 4
    """Side of the patches that queries look at, in cells of the finest level."""
    cell_px: int = 8
    """Pixels of a cell's side."""

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> GroundedShape:
        """The sizes of a state dict in the published layout.

        What no tensor tells, heads and pixels of a cell, is as published.

        Raises:
            KeyError: a tensor that tells a size is not there.
        """
        reducing = reducing_weights(state)
        widths = tuple(weight.shape[0] for weight in reducing)
        decoder = "transfromer_decoder.layers."
        return cls(
            channels=tuple(weight.shape[1] for weight in reducing),
            widths=widths,
            text_width=state["to_q.weight"].shape[1],
            width=state["to_q.weight"].shape[0],
            feedforward=state[f"{decoder}0.linear1.weight"].shape[0],
            layers=sum(key.startswith(decoder) and "linear1.weight" in key for key in state),
            patch=round((state["to_k.weight"].shape[1] / sum(widths)) ** 0.5),
        )


class GroundedHead(FeaturePyramid):
    """Features and text vectors of one image to mask logits."""

    def __init__(self, shape: GroundedShape) -> None:
        summed = [sum(shape.widths[: place + 1]) for place in range(len(shape.widths))]
        super().__init__(shape.channels, shape.widths, summed[1:])
        self.shape = shape
        self.to_k = nn.Linear(summed[-1] * shape.patch**2, shape.width, bias=False)
        self.to_q = nn.Linear(shape.text_width, shape.width, bias=False)
        layer = nn.TransformerDecoderLayer(
            shape.width, shape.heads, shape.feedforward, dropout=0.0, norm_first=True
        )
        layer.self_attn = nn.MultiheadAttention(shape.width, shape.heads, bias=False)
        layer.multihead_attn = nn.MultiheadAttention(shape.width, shape.heads, bias=False)
        # sic: the name is in the published weights
        self.transfromer_decoder = nn.TransformerDecoder(layer, shape.layers)
        for parameter in self.transfromer_decoder.parameters():
            # the layers are copies of one: draw each anew
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        self.mlp = Mlp(shape.width, shape.width, shape.width, summed[-1])

    def forward(self, levels: Levels, text: Float[Tensor, "Q ctx"]) -> Float[Tensor, "Q H W"]:
        """Mask logits of each query, of the image's size; a mask is where they are above 0.

        Queries of one call see each other (self-attention): maps of single classes are asked for
        one by one.

        Args:
            levels: one image's features, unconditional before conditional channels.
            text: one vector of text encoder width for each query (methods 5.3).

        Raises:
            MethodError: features of another model.
        """
        return self.answer(self.pyramid(levels)[-1], text)

    def answer(
        self, merged: Float[Tensor, "1 C h w"], text: Float[Tensor, "Q ctx"]
    ) -> Float[Tensor, "Q H W"]:
        """Mask logits as `forward` gives them, of features that are merged already.

        Args:
            merged: the finest level of the pyramid.
            text: one vector for each query.
        """
        patches = unfold(merged, self.shape.patch, stride=self.shape.patch)[0].T
        decoded = self.transfromer_decoder(self.to_q(text), self.to_k(patches))
        height, width = (side * self.shape.cell_px for side in merged.shape[2:])
        # the dot product before the resize: both are linear, and pixels are 64 times as many
        logits = (self.mlp(decoded) @ merged[0].flatten(1)).unflatten(1, merged.shape[2:])
        return resize(logits[None], (height, width))[0]


def grounded_mask(logits: Float[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """The published decision: sigmoid above a half, that is a logit above 0 (methods 5.4)."""
    return logits > 0
