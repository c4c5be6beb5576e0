"""DatasetDM's P-decoder: queries that look at features and attention, and how one mask is chosen.

Wu et al., DatasetDM: Synthesizing Data with Perception Annotations Using Diffusion Models, NeurIPS
2023 (methods 6.2 to 6.4), written from its description; its layers are those of Mask2Former. It
does not know where features, attention and text vectors come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import relu

from ovamgen.attribution.heads.pyramid import FeaturePyramid, Levels, Mlp, reducing_weights, resize

_TEMPERATURE = 10000.0
_EPS = 1e-6
_CANDIDATES = 3
_MASK_CELLS = 2.5
"""Pixels of a mask's side for each cell of the finest level: 160 for 64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDmShape:
    """Sizes of the network; the defaults are those of the published one for VOC and SD 1.4."""

    channels: tuple[int, ...] = (18536, 19720, 12680, 8200)
    """Channels of each level, coarsest first: features of both halves, then attention."""
    text_width: int = 768
    width: int = 256
    feedforward: int = 2048
    heads: int = 8
    layers: int = 10
    queries: int = 20
    classes: int = 2
    """Labels without the one for no object."""

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> DatasetDmShape:
        """The sizes of a state dict in the published layout; heads are as published.

        Raises:
            KeyError: a tensor that tells a size is not there.
        """
        queries, width = state["query_feat.weight"].shape
        return cls(
            channels=tuple(weight.shape[1] for weight in reducing_weights(state)),
            text_width=state["query_feat_mlp.weight"].shape[1] - width,
            width=width,
            feedforward=state["transformer_ffn_layers.0.linear1.weight"].shape[0],
            layers=sum("transformer_ffn" in k and k.endswith("linear1.weight") for k in state),
            queries=queries,
            classes=state["class_embed.weight"].shape[0] - 1,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class QueryMasks:
    """What every query says at one depth of the decoder."""

    classes: Float[Tensor, "Q labels"]
    """Logits of the labels, no object last."""
    masks: Float[Tensor, "Q h w"]
    """Mask logits; a mask is where they are above 0."""


class DatasetDmHead(FeaturePyramid):
    """Features, attention and text vector of one image to the masks of its queries."""

    def __init__(self, shape: DatasetDmShape) -> None:
        levels, width = len(shape.channels), shape.width
        super().__init__(shape.channels, [width] * levels, [width] * (levels - 1))
        self.shape = shape
        self.query_feat = nn.Embedding(shape.queries, width)
        self.query_embed = nn.Embedding(shape.queries, width)
        self.level_embed = nn.Embedding(levels - 1, width)
        self.query_feat_mlp = nn.Linear(width + shape.text_width, width, bias=False)
        self.query_embed_mlp = nn.Linear(width + shape.text_width, width, bias=False)
        depth = range(shape.layers)
        self.transformer_cross_attention_layers = nn.ModuleList(
            _CrossAttention(width, shape.heads) for _ in depth
        )
        self.transformer_self_attention_layers = nn.ModuleList(
            _SelfAttention(width, shape.heads) for _ in depth
        )
        self.transformer_ffn_layers = nn.ModuleList(
            _FeedForward(width, shape.feedforward) for _ in depth
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.class_embed = nn.Linear(width, shape.classes + 1)
        self.mask_embed = Mlp(width, width, width, width)

    def forward(self, levels: Levels, text: Float[Tensor, " ctx"]) -> list[QueryMasks]:
        """What the queries say before the first layer and after each; the last is the answer.

        Masks have 2.5 pixels for each cell of the finest level.

        Args:
            levels: one image's features, unconditional before conditional channels, and after them
                its attention maps, (layer, head, token) as channels (methods 6.1).
            text: one vector of text encoder width (methods 6.3).

        Raises:
            MethodError: features of another model.
        """
        return self.answer(self.pyramid(levels), text)

    def answer(
        self, merged: Sequence[Float[Tensor, "1 C _ _"]], text: Float[Tensor, " ctx"]
    ) -> list[QueryMasks]:
        """What the queries say, as `forward` gives it, of features that are merged already.

        Args:
            merged: all levels of the pyramid, coarsest first.
            text: one vector of text encoder width.
        """
        *coarse, finest = merged
        size = [math.ceil(side * _MASK_CELLS) for side in finest.shape[2:]]
        features = resize(finest, size)[0]
        memories, positions = [], []
        for place, (level_map, embedding) in enumerate(
            zip(coarse, self.level_embed.weight, strict=True)
        ):
            # halves of halves: 80, 40 and 20 of 160
            divisor = 2 ** (len(coarse) - place)
            memory = resize(level_map, [math.ceil(side / divisor) for side in size])
            positions.append(sine_positions(memory).flatten(1).T)
            memories.append((memory[0].flatten(1).T + embedding, memory.shape[2:]))
        every = text.expand(self.shape.queries, -1)
        # the names are swapped in the published weights
        place_of = self.query_feat_mlp(torch.cat([self.query_embed.weight, every], dim=1))
        x = self.query_embed_mlp(torch.cat([self.query_feat.weight, every], dim=1))
        said = [self._say(x, features)]
        for depth, (cross, among, forward) in enumerate(
            zip(
                self.transformer_cross_attention_layers,
                self.transformer_self_attention_layers,
                self.transformer_ffn_layers,
                strict=True,
            )
        ):
            level = depth % len(memories)
            memory, level_size = memories[level]
            blocked = blocked_keys(said[-1].masks, level_size)
            x = cross(x, place_of, memory, positions[level], blocked)
            x = forward(among(x, place_of))
            said.append(self._say(x, features))
        return said

    def _say(self, x: Float[Tensor, "Q C"], features: Float[Tensor, "C h w"]) -> QueryMasks:
        x = self.decoder_norm(x)
        masks = (self.mask_embed(x) @ features.flatten(1)).unflatten(1, features.shape[1:])
        return QueryMasks(classes=self.class_embed(x), masks=masks)


def blocked_keys(masks: Float[Tensor, "Q h w"], size: tuple[int, ...]) -> Bool[Tensor, "Q keys"]:
    """Keys of a level that a query must not look at: those outside its mask, as it is so far.

    A query whose mask is empty may look at all of them.
    """
    outside = resize(masks.detach()[None], size)[0].flatten(1).sigmoid() < 0.5
    return outside & ~outside.all(dim=1, keepdim=True)


def sine_positions(x: Float[Tensor, "1 C h w"]) -> Float[Tensor, "C h w"]:
    """Sines and cosines of row and column, half of the channels each (methods 6.7).

    Computed in float32 whatever the input's dtype, as the published code does.
    """
    _, channels, height, width = x.shape
    # channels 2i and 2i + 1 have one frequency: the sine and the cosine
    pair = 2 * torch.div(torch.arange(channels // 2, device=x.device), 2, rounding_mode="floor")
    frequency = _TEMPERATURE ** (pair.float() / (channels // 2))
    axes = []
    for side in (height, width):
        cells = torch.arange(1, side + 1, dtype=torch.float32, device=x.device)
        phases = (cells / (side + _EPS) * 2 * math.pi)[:, None] / frequency
        waves = torch.stack([phases[:, 0::2].sin(), phases[:, 1::2].cos()], dim=2).flatten(1)
        axes.append(waves.T)
    rows = axes[0][:, :, None].expand(-1, -1, width)
    columns = axes[1][:, None, :].expand(-1, height, -1)
    return torch.cat([rows, columns]).to(x.dtype)


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        placed = x + position
        return self.norm(x + self.self_attn(placed, placed, x, need_weights=False)[0])


class _CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor, blocked: Tensor
    ) -> Tensor:
        attended, _ = self.multihead_attn(
            x + position, memory + memory_position, memory, attn_mask=blocked, need_weights=False
        )
        return self.norm(x + attended)


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear2(relu(self.linear1(x))))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Selection:
    """The candidates of one image, by falling class probability, and the one that was chosen."""

    query: Int64[Tensor, " candidates"]
    label: Int64[Tensor, " candidates"]
    class_probability: Float[Tensor, " candidates"]
    score: Float[Tensor, " candidates"]
    """Class probability times the mean of the mask's sigmoid inside the mask."""
    logits: Float[Tensor, "candidates H W"]
    """Mask logits of the candidates, of the image's size."""

    @property
    def winner(self) -> Int64[Tensor, ""]:
        """Place of the candidate with the best score."""
        return self.score.argmax()

    @property
    def winning_logits(self) -> Float[Tensor, "H W"]:
        """Mask logits of the winner; the mask is where they are above 0 (methods 6.4)."""
        return self.logits[self.winner]


def select_mask(said: QueryMasks, size: tuple[int, int]) -> Selection:
    """Which query's mask is the image's, by the published rule (methods 6.4).

    Args:
        said: the decoder's answer.
        size: (height, width) of the image, which masks are resized to before they are judged.
    """
    labels = said.classes.shape[1] - 1
    probabilities = said.classes.softmax(1)[:, :labels].flatten()
    best = probabilities.topk(min(_CANDIDATES, len(probabilities)))
    query = best.indices // labels
    logits = resize(said.masks[None, query], size)[0]
    inside = logits > 0
    area = inside.flatten(1).sum(1)
    inner = (logits.sigmoid() * inside).flatten(1).sum(1) / (area + _EPS)
    return Selection(
        query=query,
        label=best.indices % labels,
        class_probability=best.values,
        score=best.values * inner,
        logits=logits,
    )
