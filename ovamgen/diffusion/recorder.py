"""Attention of a UNet while it draws, handed to sinks one layer at a time.

A sink gets the queries of cross-attention, and what else it has methods for: the beginning of each
UNet call, queries and keys of self-attention. Generation is only watched: hooks read what passes,
no attention processor is replaced, and a recorded image is bit-equal to an unrecorded one. This
module does not know what sinks compute.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
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


Listener = tuple[AttentionSink, Branch]
"""What takes the queries, and of which half of the guided batch."""


@runtime_checkable
class CallSink(Protocol):
    """A sink that is told when a UNet call begins, before its layers come."""

    def begin_call(self, timestep: float) -> None:
        """Takes the call's timestep, as the scheduler counts them: 999 is noise, 0 the image."""


@runtime_checkable
class SelfAttentionSink(Protocol):
    """A sink that takes the self-attention beside each cross-attention layer as well."""

    def update_self(
        self,
        layer: int,
        queries: Float[Tensor, "B N P D"],
        keys: Float[Tensor, "B N P D"],
        size: tuple[int, int],
        scale: float,
    ) -> None:
        """Takes one layer's queries and keys; the scores are scale · Q Kᵀ.

        Args:
            layer: index into `cross_attention_layers(unet)`, whose block it is in.
            queries: as for cross-attention.
            keys: of the same shape.
            size: (h, w), the layer's height and width in cells.
            scale: head_dim ** -0.5.
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
    self_attention: Any
    """The diffusers Attention of the same block that attends to the image itself."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, and so of the queries."""
        return self.to_k.weight.dtype

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


def self_attention_layers(unet: Any) -> list[Any]:
    """The diffusers Attention beside each of `cross_attention_layers(unet)`, in their order.

    Raises:
        MethodError: the UNet has no cross-attention, or one of its blocks has no self-attention
            with plain queries and keys.
    """
    layers = cross_attention_layers(unet)
    for layer in layers:
        attention = layer.self_attention
        if attention is None or attention.is_cross_attention:
            fault = "attends to the text twice"
        elif attention.norm_q is not None or attention.norm_k is not None:
            fault = "normalises its queries and keys"
        else:
            continue
        raise MethodError(
            f"self-attention is wanted, but the block of {layer.name} {fault}: use "
            "masks.self_attention none, or a UNet of the Stable Diffusion 1 or 2 family"
        )
    return [layer.self_attention for layer in layers]


def _walk(unet: Any) -> Iterator[tuple[str, Any, Any, torch.nn.Module]]:
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
                    yield path, attention, inner.attn1, module


def _describe(
    name: str, attention: Any, self_attention: Any, transformer: torch.nn.Module
) -> CrossAttentionLayer:
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
        self_attention=self_attention,
    )


@dataclass(eq=False)
class CrossAttentionRecorder:
    """A context in which every UNet call feeds the sink; leaving it removes all hooks.

    Recorders do not disturb each other: several, each with its own sink and half, may watch one
    drawing.

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
        layers = cross_attention_layers(self.unet)
        beside: list[Any] = []
        if isinstance(self.sink, SelfAttentionSink):
            beside = self_attention_layers(self.unet)
        if isinstance(self.sink, CallSink):
            begin = self._begin_call(self.sink)
            self._handles.append(self.unet.register_forward_pre_hook(begin, with_kwargs=True))
        # with all keys from the beginning: compiled code is compiled anew for a new one
        self._sizes.update(dict.fromkeys(range(len(layers)), (0, 0)))
        for index, layer in enumerate(layers):
            self._handles += [
                layer.transformer.register_forward_pre_hook(
                    self._remember_size(index), with_kwargs=True
                ),
                layer.to_q.register_forward_hook(self._pass_on(index, layer)),
            ]
        for index, attention in enumerate(beside):
            self._handles += self._watch_self(index, attention)
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

    def _begin_call(self, sink: CallSink) -> Any:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            sink.begin_call(timestep_of(args, kwargs))

        return hook

    def _pass_on(self, index: int, layer: CrossAttentionLayer) -> Any:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            queries = self._half(output, layer.heads)
            self.sink.update(index, queries, self._sizes[index])

        return hook

    def _watch_self(self, index: int, attention: Any) -> list[RemovableHandle]:
        """Hooks on one self-attention layer: its keys are projected after its queries."""
        waiting: list[Tensor] = []
        sink = self.sink
        assert isinstance(sink, SelfAttentionSink)

        def keep(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            waiting[:] = [self._half(output, attention.heads)]

        def hand_over(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            keys = self._half(output, attention.heads)
            sink.update_self(index, waiting.pop(), keys, self._sizes[index], float(attention.scale))

        return [
            attention.to_q.register_forward_hook(keep),
            attention.to_k.register_forward_hook(hand_over),
        ]

    def _half(self, output: Tensor, heads: int) -> Float[Tensor, "B N P D"]:
        rows = output.detach()
        if self.guided:
            half = rows.shape[0] // 2
            rows = rows[:half] if self.branch == "unconditional" else rows[half:]
        return rows.reshape(*rows.shape[:2], heads, -1).transpose(1, 2)


def timestep_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """The timestep of a UNet call, from what a hook on the UNet is given."""
    return float(args[1] if len(args) > 1 else kwargs["timestep"])


@contextlib.contextmanager
def recording(unet: Any, guided: bool, listeners: Sequence[Listener]) -> Iterator[None]:
    """A context in which every UNet call feeds all the sinks, each from its own half.

    Raises:
        MethodError: a half does not exist, or the UNet has no cross-attention.
    """
    with contextlib.ExitStack() as stack:
        for sink, branch in listeners:
            stack.enter_context(CrossAttentionRecorder(unet, branch, guided, sink))
        yield
