"""What the stored queries of one class will take, known before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]  # ships no types
import torch

from ovamgen.config import SynthesisConfig
from ovamgen.console.wording import readable_bytes
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.recorder import CrossAttentionLayer, cross_attention_layers
from ovamgen.diffusion.schedulers import count_calls
from ovamgen.errors import ConfigError

_FLOAT32_BYTES = 4
_USABLE = 0.9
"""The part of the free memory that queries may take: the model draws beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryMemory:
    """Bytes that optimisation holds."""

    calls: int
    """UNet calls of one drawing."""
    image_bytes: int
    """The queries of one image, all layers and calls, in float32."""
    extra_bytes: int
    """One layer while it is stacked, and the scores that gradients need."""

    def needed(self, images: int) -> int:
        """Bytes at the peak, for so many images of a class."""
        return images * self.image_bytes + self.extra_bytes

    def line(self, images: int) -> str:
        """As text for people."""
        several = f" for {images} images" if images > 1 else ""
        return (
            f"stored queries: {readable_bytes(self.needed(images))} a class{several} "
            f"({self.calls} UNet calls)"
        )

    def check(self, images: int, limit: int, asked: bool) -> None:
        """Checks that the queries fit.

        Args:
            images: of one class.
            limit: bytes.
            asked: the limit was given, and is not what the machine has free.

        Raises:
            ConfigError: they do not fit; the message says what would help.
        """
        if self.needed(images) <= limit:
            return
        fewer = "a smaller --images-per-class, " if images > 1 else ""
        where = "--max-memory allows" if asked else "can be used of the memory that is free"
        needed = readable_bytes(self.needed(images))
        raise ConfigError(
            f"the queries of a class take {needed} ({self.calls} UNet calls"
            f"{f', {images} images' if images > 1 else ''}), but {readable_bytes(limit)} {where}: "
            f"use {fewer}fewer --workers, samples drawn with fewer steps, or a machine with more "
            "memory"
        )


def query_memory(
    loaded: LoadedPipeline, settings: SynthesisConfig, latent_size: tuple[int, int]
) -> QueryMemory:
    """The memory that the queries of one image take, from the shapes of the layers.

    Raises:
        MethodError: the model has no cross-attention.
    """
    pipe = loaded.pipe
    calls = count_calls(pipe, settings.scheduler, settings.steps)
    sizes, scores = [], 0
    for layer in cross_attention_layers(pipe.unet):
        height, width = _layer_size(pipe.unet, layer, latent_size)
        values = calls * layer.heads * height * width
        sizes.append(values * layer.head_dim * _FLOAT32_BYTES)
        scores += 2 * values * _FLOAT32_BYTES
    return QueryMemory(calls=calls, image_bytes=sum(sizes), extra_bytes=max(sizes) + scores)


def free_bytes(device: str, workers: int = 1) -> int:
    """Bytes that the queries of one worker may take on this machine, or on its GPU."""
    if device == "cuda":
        return int(_USABLE * torch.cuda.mem_get_info()[0])
    return int(_USABLE * psutil.virtual_memory().available / workers)


def _layer_size(unet: Any, layer: CrossAttentionLayer, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a layer in cells: every downsampler before it halves, rounding up."""
    side, number = layer.name.split(".")[:2]
    halvings = sum(block.downsamplers is not None for block in unet.down_blocks)
    if side == "down_blocks":
        before = unet.down_blocks[: int(number)]
        halvings = sum(block.downsamplers is not None for block in before)
    else:
        before = unet.up_blocks[: int(number)]
        halvings -= sum(block.upsamplers is not None for block in before)
    height, width = size
    for _ in range(halvings):
        height, width = -(-height // 2), -(-width // 2)
    return height, width
