"""Outputs of UNet blocks and cross-attention maps at chosen calls, handed to sinks that ask.

Trained heads read them (methods 5.1 and 6.1). Generation is only watched, as in
`ovamgen.diffusion.recorder`: hooks read what passes, and a picture is bit-equal to one that nobody
looked at. Blocks are known by their place in the UNet and not by the height of what they put out,
so that every image size, and any number of images, gives what one image of 512x512 gave the
published code. This module does not know what sinks compute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from ovamgen.diffusion.recorder import timestep_of
from ovamgen.errors import MethodError


@runtime_checkable
class FeatureSink(Protocol):
    """What takes block features; the calls it does not want cost nothing."""

    @property
    def before_upsampling(self) -> bool:
        """Whether the output that an up block upsamples is a feature too.

        It is for DatasetDM, and is not for Grounded Diffusion.
        """

    @property
    def with_attention(self) -> bool:
        """Whether cross-attention maps of the prompt are taken as well."""

    def wants_features(self, timestep: float) -> bool:
        """Whether the call at this timestep is to be recorded, as the scheduler counts them."""

    def take_features(
        self,
        features: Sequence[Sequence[Float[Tensor, "B _ _ _"]]],
        attention: Sequence[Sequence[Float[Tensor, "B _ _ _"]]],
    ) -> None:
        """Takes one call's recording; tensors are the sink's own, in the UNet's dtype.

        Args:
            features: for each level, coarsest first, the outputs of its blocks in the order of
                execution; unconditional channels before conditional ones.
            attention: for each level, its layers' maps over the prompt's tokens, of the conditional
                half: the middle block's, then the up block's, then the down block's; channels are
                (head, token). Empty where the sink does not ask for them.
        """


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FeatureBlock:
    """One module whose output is a feature."""

    name: str
    """Module path inside the UNet: ``up_blocks.1.attentions.0``."""
    channels: int
    """Channels of one half of the guided batch."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FeatureLevel:
    """What has one resolution."""

    blocks: tuple[FeatureBlock, ...]
    """In the order of execution."""
    attention: tuple[str, ...]
    """Paths of its cross-attention layers: middle, up, down. Empty where they are not asked for."""
    heads: int
    """Over all of these layers."""

    def channels(self, tokens: int) -> int:
        """Channels that a head sees: both halves' features, and a map for each head and token."""
        return 2 * sum(block.channels for block in self.blocks) + self.heads * tokens


def feature_levels(
    unet: Any, *, before_upsampling: bool, with_attention: bool
) -> tuple[FeatureLevel, ...]:
    """The levels of a UNet, coarsest first.

    Args:
        unet: a diffusers UNet2DConditionModel of the Stable Diffusion 1 or 2 family.
        before_upsampling: see `FeatureSink`.
        with_attention: see `FeatureSink`.

    Raises:
        MethodError: the UNet has other blocks, or normalises queries of its cross-attention.
    """
    if unet.config.addition_embed_type is not None:
        raise MethodError(
            "block features are known for UNets that take text alone, and this one takes "
            f"{unet.config.addition_embed_type} as well: use a model of the Stable Diffusion 1 or "
            "2 family, or a method without a head"
        )
    down, up = list(unet.down_blocks), list(unet.up_blocks)
    last = len(down) - 1
    samplers = [block.downsamplers for block in down[:-1]] + [block.upsamplers for block in up[:-1]]
    if len(up) != len(down) or not all(samplers) or unet.mid_block is None:
        raise MethodError(
            "block features need a UNet that halves its resolution after every down block but the "
            f"last and doubles it again on the way up, {type(unet).__name__} with {len(down)} down "
            f"and {len(up)} up blocks does not: use a model of the Stable Diffusion 1 or 2 family"
        )
    levels = []
    # level 0 is the finest here, as the down blocks count
    for level in range(last, -1, -1):
        on_way_up = last - level
        if level:
            below = level - 1
            sampler = down[below].downsamplers[0]
            blocks = [_block(f"down_blocks.{below}.downsamplers.0", sampler.out_channels)]
        else:
            blocks = [_block("conv_in", unet.conv_in.out_channels)]
        blocks += _inner(f"down_blocks.{level}", down[level])
        if on_way_up:
            above = on_way_up - 1
            sampler = up[above].upsamplers[0]
            blocks.append(_block(f"up_blocks.{above}.upsamplers.0", sampler.out_channels))
        else:
            blocks.append(_block("mid_block", unet.mid_block.resnets[-1].out_channels))
        going_up = _inner(f"up_blocks.{on_way_up}", up[on_way_up])
        # the last one is followed by the upsampler, where there is one
        blocks += going_up if before_upsampling or not level else going_up[:-1]
        places = [f"up_blocks.{on_way_up}", f"down_blocks.{level}"]
        layers = _cross_attention(unet, (["mid_block"] if level == last else []) + places)
        names = tuple(layers) if with_attention else ()
        levels.append(
            FeatureLevel(
                blocks=tuple(blocks),
                attention=names,
                heads=sum(layers[name].heads for name in names),
            )
        )
    return tuple(levels)


def feature_bytes(channels: Sequence[int], latent_size: tuple[int, int], *, itemsize: int) -> int:
    """Bytes that the features of one image take, which is what recording adds to a drawing.

    Args:
        channels: of each level, coarsest first (`FeatureLevel.channels`).
        latent_size: (height, width) of the latents.
        itemsize: bytes of one number of the UNet.
    """
    total = 0
    for place, count in enumerate(channels):
        divisor = 2 ** (len(channels) - 1 - place)
        cells = math.prod(-(-side // divisor) for side in latent_size)
        total += count * cells * itemsize
    return total


def _block(name: str, channels: int) -> FeatureBlock:
    return FeatureBlock(name=name, channels=channels)


def _inner(name: str, block: Any) -> list[FeatureBlock]:
    """The outputs of a block's resnets, each after its transformer where there is one."""
    kind = "attentions" if getattr(block, "has_cross_attention", False) else "resnets"
    return [
        _block(f"{name}.{kind}.{number}", resnet.out_channels)
        for number, resnet in enumerate(block.resnets)
    ]


def _cross_attention(unet: Any, places: Sequence[str]) -> dict[str, Any]:
    """Cross-attention layers of some blocks, by path, in order."""
    found: dict[str, Any] = {}
    for place in places:
        block = unet.get_submodule(place)
        if not getattr(block, "has_cross_attention", False):
            continue
        for number, transformer in enumerate(block.attentions):
            for index, inner in enumerate(transformer.transformer_blocks):
                name = f"{place}.attentions.{number}.transformer_blocks.{index}.attn2"
                if inner.attn2.norm_q is not None or inner.attn2.norm_k is not None:
                    raise MethodError(
                        f"attention maps need plain queries and keys, but {name} normalises them: "
                        "use a UNet of the Stable Diffusion 1 or 2 family"
                    )
                found[name] = inner.attn2
    return found


@dataclass(eq=False)
class FeatureRecorder:
    """A context in which the UNet calls that a sink wants feed it; leaving it removes all hooks."""

    unet: Any
    """A diffusers UNet2DConditionModel."""
    guided: bool
    """The batch holds both halves (guidance above 1)."""
    sink: FeatureSink
    _handles: list[RemovableHandle] = field(default_factory=list, init=False, repr=False)
    _recording: bool = field(default=False, init=False, repr=False)
    _features: list[list[Tensor]] = field(default_factory=list, init=False, repr=False)
    _attention: list[dict[int, Tensor]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuses a batch that lacks half of what a head reads.

        Raises:
            MethodError: the batch has the conditional half only.
        """
        if not self.guided:
            raise MethodError(
                "block features are those of both halves of a guided batch, which needs guidance "
                "above 1: raise the guidance, or use a method without a head"
            )

    def __enter__(self) -> FeatureRecorder:
        levels = feature_levels(
            self.unet,
            before_upsampling=self.sink.before_upsampling,
            with_attention=self.sink.with_attention,
        )
        self._handles += [
            self.unet.register_forward_pre_hook(self._begin(len(levels)), with_kwargs=True),
            self.unet.register_forward_hook(self._end),
        ]
        for place, level in enumerate(levels):
            for block in level.blocks:
                module = self.unet.get_submodule(block.name)
                self._handles.append(module.register_forward_hook(self._keep(place)))
            for number, name in enumerate(level.attention):
                attention = self.unet.get_submodule(name)
                self._handles += self._watch(place, number, attention)
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
        self._forget()

    def _forget(self) -> None:
        self._recording = False
        self._features, self._attention = [], []

    def _begin(self, levels: int) -> Any:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            timestep = timestep_of(args, kwargs)
            self._forget()
            self._recording = self.sink.wants_features(timestep)
            if self._recording:
                self._features = [[] for _ in range(levels)]
                self._attention = [{} for _ in range(levels)]

        return hook

    def _end(self, module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._recording:
            features = self._features
            # layers run down first, and are listed up first
            attention = [[maps for _, maps in sorted(some.items())] for some in self._attention]
            self._forget()
            self.sink.take_features(features, attention)

    def _keep(self, level: int) -> Any:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self._recording:
                rows: Tensor = output if isinstance(output, Tensor) else output[0]
                # unconditional and conditional rows of each image become its channels
                self._features[level].append(torch.cat(rows.detach().chunk(2), dim=1))

        return hook

    def _watch(self, level: int, number: int, attention: Any) -> list[RemovableHandle]:
        """Hooks on one cross-attention layer: its keys are projected after its queries."""
        waiting: list[Tensor] = []

        def keep(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            if self._recording:
                waiting[:] = [self._conditional(output, attention.heads)]

        def compare(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            if self._recording:
                keys = self._conditional(output, attention.heads)
                scores = float(attention.scale) * waiting.pop().float() @ keys.float().mT
                maps = scores.softmax(-1).to(output.dtype).mT.contiguous().flatten(1, 2)
                # a level's first feature, a downsampler's or the first convolution's, comes before
                size = self._features[level][0].shape[2:]
                self._attention[level][number] = maps.reshape(*maps.shape[:2], *size)

        return [
            attention.to_q.register_forward_hook(keep),
            attention.to_k.register_forward_hook(compare),
        ]

    @staticmethod
    def _conditional(output: Tensor, heads: int) -> Float[Tensor, "B N _ D"]:
        rows = output.detach().chunk(2)[1]
        return rows.reshape(*rows.shape[:2], heads, -1).transpose(1, 2)
