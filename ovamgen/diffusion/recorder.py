"""Cross-attention queries of a UNet while it draws, handed to a sink one layer at a time.

Generation is only watched: hooks read what passes, no attention processor is replaced, and a
recorded image is bit-equal to an unrecorded one. This module does not know what sinks compute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from jaxtyping import Float, Float32
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from ovamgen.errors import MethodError

Branch = Literal["unconditional", "conditional"]


@runtime_checkable
class AttentionSink(Protocol):
    """What takes the queries; called once for each layer of each UNet call."""

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Takes one layer's queries; they may be a view that the next operation overwrites.

        Args:
            layer: index into `cross_attention_layers(unet)`.
            queries: B images, N heads, P = h·w positions in row-major order, D head_dim; in the
                UNet's dtype and on its device.
            size: (h, w), the layer's height and width in cells.
        """


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CrossAttentionLayer:
    """One cross-attention layer of a UNet, as attribution needs it."""

    name: str
    """Module path inside the UNet: ``up_blocks.1.attentions.0.transformer_blocks.0.attn2``."""
    heads: int
    head_dim: int
    scale: float
    """Factor of the scores, head_dim ** -0.5."""
    to_q: torch.nn.Module
    to_k: torch.nn.Linear
    transformer: torch.nn.Module
    """The enclosing Transformer2DModel, whose input still has height and width."""

    def project_keys(self, rows: Float[Tensor, "L ctx"]) -> Float32[Tensor, "N L D"]:
        """The layer's keys of attribution rows, whatever prompt the image is drawn from.

        Differentiable in the rows alone. Projected in float32 also where the weights are halves:
        maps of optimised pairs depend on differences of keys, which halves would round away.

        Args:
            rows: L rows of text encoder output or optimised tokens, of the UNet's text width.
        """
        bias = None if self.to_k.bias is None else self.to_k.bias.detach().float()
        weight = self.to_k.weight.detach().float()
        keys = torch.nn.functional.linear(rows.to(weight.device).float(), weight, bias)
        return keys.reshape(-1, self.heads, self.head_dim).transpose(0, 1)


def cross_attention_layers(unet: Any) -> list[CrossAttentionLayer]:
    """The layers that maps are read from: up blocks first, then down; never the middle (0.2).

    Args:
        unet: a diffusers UNet2DConditionModel; that of Stable Diffusion 1.5 has 15 such layers.

    Raises:
        MethodError: the UNet has no cross-attention outside the middle block, or normalises its
            queries after their projection, which recording would miss.
    """
    layers = [_describe(*found) for found in _walk(unet)]
    if not layers:
        raise MethodError(
            "heatmaps need a UNet with cross-attention outside its middle block, "
            f"got {type(unet).__name__} without any: use a text-to-image model such as SD 1.5"
        )
    return layers


def _walk(unet: Any) -> Iterator[tuple[str, Any, torch.nn.Module]]:
    for side in ("up_blocks", "down_blocks"):
        for number, block in enumerate(getattr(unet, side, ())):
            for name, module in block.named_modules():
                if not isinstance(module, Transformer2DModel):
                    continue
                for index, inner in enumerate(module.transformer_blocks):
                    attention = inner.attn2
                    if attention is None or not attention.is_cross_attention:
                        continue
                    path = f"{side}.{number}.{name}.transformer_blocks.{index}.attn2"
                    yield path, attention, module


def _describe(name: str, attention: Any, transformer: torch.nn.Module) -> CrossAttentionLayer:
    if attention.norm_q is not None or attention.norm_k is not None:
        raise MethodError(
            f"heatmaps need plain queries and keys, but {name} normalises them: "
            "use a UNet of the Stable Diffusion 1 or 2 family"
        )
    return CrossAttentionLayer(
        name=name,
        heads=attention.heads,
        head_dim=attention.inner_dim // attention.heads,
        scale=float(attention.scale),
        to_q=attention.to_q,
        to_k=attention.to_k,
        transformer=transformer,
    )


@dataclass(eq=False)
class CrossAttentionRecorder:
    """A context in which every UNet call feeds the sink; leaving it removes all hooks.

    Queries come from one half of the guided batch (methods 0.1): diffusers puts the unconditional
    rows first. Height and width are read from the enclosing transformer's input, since a sequence
    of positions no longer tells a 9x17 layer from a 17x9 one.
    """

    unet: Any
    """A diffusers UNet2DConditionModel."""
    branch: Branch
    """The half that queries are taken from."""
    guided: bool
    """The batch holds both halves (guidance above 1)."""
    sink: AttentionSink
    _handles: list[RemovableHandle] = field(default_factory=list, init=False, repr=False)
    _sizes: dict[int, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuses a half that the batch does not have.

        Raises:
            MethodError: the unconditional half of an unguided batch.
        """
        if self.branch == "unconditional" and not self.guided:
            raise MethodError(
                "the unconditional branch needs guidance above 1, got a batch with the conditional "
                "half only: raise the guidance or take the conditional branch"
            )

    def __enter__(self) -> CrossAttentionRecorder:
        for index, layer in enumerate(cross_attention_layers(self.unet)):
            self._handles += [
                layer.transformer.register_forward_pre_hook(
                    self._remember_size(index), with_kwargs=True
                ),
                layer.to_q.register_forward_hook(self._pass_on(index, layer)),
            ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._sizes.clear()

    def _remember_size(self, index: int) -> Any:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            self._sizes[index] = (hidden.shape[-2], hidden.shape[-1])

        return hook

    def _pass_on(self, index: int, layer: CrossAttentionLayer) -> Any:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            rows = output.detach()
            if self.guided:
                half = rows.shape[0] // 2
                rows = rows[:half] if self.branch == "unconditional" else rows[half:]
            queries = rows.reshape(*rows.shape[:2], layer.heads, layer.head_dim).transpose(1, 2)
            self.sink.update(index, queries, self._sizes[index])

        return hook
