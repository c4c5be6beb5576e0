"""What drawing costs on paper: operations counted on networks without weights, bytes of maps.

And the rate that a device reaches at nothing but matrix products, which turns the count into the
shortest time that it can take. A multiplication with its addition counts as two operations.
"""

from __future__ import annotations

import functools
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ovamgen.attribution.ovam import ChosenMaps, OvamSink, PairMaps
from ovamgen.bench.memory import ScratchMeter
from ovamgen.diffusion.architectures import SD15
from ovamgen.diffusion.families import SIZE_IDS
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.random_weights import skeleton_of, unet_skeleton
from ovamgen.diffusion.recorder import Branch, CrossAttentionRecorder, cross_attention_layers
from ovamgen.diffusion.schedulers import count_calls

_TEXT_ROWS = 77
_PHRASE_ROWS = (3, 3, 3, 3, 4)
"""Rows of class phrases: every fifth has two words, between ``<SoT>`` and ``<EoT>``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCost:
    """One UNet call for one image: a guided one is two rows of the batch."""

    flops: int
    """The call itself: convolutions and matrix products, which are nearly all of it."""
    recording_flops: int
    """What the recording adds, likewise."""
    recording_bytes: int
    """What the recording reads and writes in a call that adds to its sums, keys included."""
    sum_bytes: int
    """Running sums of the maps, whatever the number of calls."""
    scratch_bytes: int
    """The most that one layer's update makes and frees."""

    @property
    def map_bytes(self) -> int:
        """Memory of an image's maps: sums and scratch."""
        return self.sum_bytes + self.scratch_bytes


def call_cost(
    unet: Any,
    latent_height: int,
    latent_width: int,
    *,
    guided: bool = True,
    tokens: str = "pairs",
    classes: int = 20,
) -> CallCost:
    """The cost of a call, counted while the network and the recorder run on the meta device.

    Args:
        unet: a network on the meta device; its dtype counts for the bytes of scratch.
        latent_height: cells.
        latent_width: cells.
        guided: the batch has both halves.
        tokens: ``pairs``, or ``words`` as halves have them.
        classes: of how many classes.
    """
    rows, width = 1 + guided, unet.config.cross_attention_dim
    inputs = (
        torch.empty(rows, unet.config.in_channels, latent_height, latent_width, device="meta").to(
            unet.dtype
        ),
        torch.empty((), device="meta"),
        torch.empty(rows, _TEXT_ROWS, width, device="meta", dtype=unet.dtype),
    )
    added = _size_ids(unet, rows)
    layers = cross_attention_layers(unet)
    maps: PairMaps | ChosenMaps
    if tokens == "pairs":
        maps = PairMaps(layers, torch.empty(classes, 2, width, device="meta"))
    else:
        lengths = [_PHRASE_ROWS[number % len(_PHRASE_ROWS)] for number in range(classes)]
        texts = [torch.empty(length, width, device="meta") for length in lengths]
        maps = ChosenMaps(layers, texts, [length - 2 for length in lengths])
    meter = ScratchMeter(OvamSink(maps))
    branch: Branch = "unconditional" if guided else "conditional"
    with torch.no_grad():
        with FlopCounterMode(display=False) as plain:
            unet(*inputs, added_cond_kwargs=added)
        with (
            CrossAttentionRecorder(unet, branch, guided, maps),
            FlopCounterMode(display=False) as recorded,
        ):
            unet(*inputs, added_cond_kwargs=added)
        maps.clear()
        with CrossAttentionRecorder(unet, branch, guided, meter):
            unet(*inputs, added_cond_kwargs=added)
            first_call = meter.traffic_bytes
            unet(*inputs, added_cond_kwargs=added)
    flops = int(plain.get_total_flops())
    return CallCost(
        flops=flops,
        recording_flops=int(recorded.get_total_flops()) - flops,
        recording_bytes=meter.traffic_bytes - first_call,
        sum_bytes=meter.inner.nbytes,
        scratch_bytes=meter.scratch_bytes,
    )


def _size_ids(unet: Any, rows: int) -> dict[str, torch.Tensor]:
    """What the UNet of Stable Diffusion XL takes beside the text: pooled text and size ids."""
    if unet.config.addition_embed_type is None:
        return {}
    ids = SIZE_IDS * unet.config.addition_time_embed_dim
    pooled = unet.config.projection_class_embeddings_input_dim - ids
    return {
        "text_embeds": torch.empty(rows, pooled, device="meta", dtype=unet.dtype),
        "time_ids": torch.empty(rows, SIZE_IDS, device="meta", dtype=unet.dtype),
    }


@functools.cache
def sd15_call_cost(tokens: str = "pairs", classes: int = 20) -> CallCost:
    """The cost for Stable Diffusion 1.5's UNet at 512x512, in float16, without its weights."""
    return call_cost(unet_skeleton(SD15).half(), 64, 64, tokens=tokens, classes=classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCost:
    """Operations of one image."""

    unet_calls: int
    """UNet calls of one drawing: PNDM makes one more than it has steps."""
    unet_flops: int
    """Operations of all those calls."""
    recording_flops: int
    decoder_flops: int
    """Operations of the autoencoder's decoding, which the floor leaves out."""


def image_cost(
    loaded: LoadedPipeline, *, steps: int, scheduler: str, height: int, width: int, guided: bool
) -> ImageCost:
    """The operations of drawing one image.

    Args:
        loaded: the pipeline; its weights are not touched.
        steps: num_inference_steps.
        scheduler: as `ovamgen.diffusion.schedulers` names it.
        height: pixels.
        width: pixels.
        guided: guidance is above 1.
    """
    pipe, factor = loaded.pipe, loaded.info.vae_scale_factor
    latent = height // factor, width // factor
    calls = count_calls(pipe, scheduler, steps)
    cost = call_cost(skeleton_of(pipe.unet), *latent, guided=guided)
    with torch.no_grad(), FlopCounterMode(display=False) as decoding:
        vae = skeleton_of(pipe.vae)
        vae.decode(torch.empty(1, vae.config.latent_channels, *latent, device="meta"))
    return ImageCost(
        unet_calls=calls,
        unet_flops=calls * cost.flops,
        recording_flops=calls * cost.recording_flops,
        decoder_flops=int(decoding.get_total_flops()),
    )


def matmul_rate(device: torch.device, dtype: torch.dtype, *, repetitions: int = 9) -> float:
    """Operations a second of a large square matrix product on random numbers, the median.

    Random, since products of zeros can be faster than any real ones.

    Args:
        device: where.
        dtype: of both factors and the product.
        repetitions: how often it is timed, after three times that do not count.
    """
    size = 8192 if device.type == "cuda" else 1024
    generator = torch.Generator("cpu").manual_seed(0)
    factors = torch.randn(2, size, size, generator=generator).to(device, dtype)
    product = torch.empty(size, size, device=device, dtype=dtype)
    seconds = []
    for number in range(-3, repetitions):
        finish(device)
        begin = time.perf_counter()
        torch.mm(factors[0], factors[1], out=product)
        finish(device)
        if number >= 0:
            seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(seconds)


def finish(device: torch.device) -> None:
    """Returns once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
