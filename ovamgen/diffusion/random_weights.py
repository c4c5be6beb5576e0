"""Pipelines of known architecture with seeded random weights, and networks without any weights.

Weights come from the raw stream of numpy's Philox, which numpy promises to keep, by exact
arithmetic: no version of torch and no mathematics library can change them.
"""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float32

from ovamgen.diffusion.architectures import Architecture
from ovamgen.diffusion.parts import complete, empty_networks

_DRAW_THREADS = 4
_RAW_CHUNK = 1 << 20
"""Raw 64-bit numbers drawn at a time: what a thread holds beside the weights, 8 MB."""


def build_pipeline(architecture: Architecture, *, dtype: torch.dtype, seed: int = 0) -> Any:
    """The architecture's pipeline with random weights, made in its final dtype on the CPU.

    Every matrix and convolution is uniform with variance 1 / fan_in, embeddings have a standard
    deviation of 0.02, norms are ones and biases zeros: activations stay of order one, so images
    are finite and differ by prompt and seed.

    Args:
        architecture: what to build.
        dtype: of all parameters.
        seed: other seeds give other weights.
    """
    networks = empty_networks(architecture)
    jobs = [
        (part, f"{label}.{name}", name)
        for label, part in networks.items()
        for name, _ in part.named_parameters()
    ]
    with ThreadPoolExecutor(_DRAW_THREADS) as pool:
        for future in [pool.submit(_fill, *job, dtype=dtype, seed=seed) for job in jobs]:
            future.result()
    return complete(architecture, networks)


def unet_skeleton(architecture: Architecture) -> Any:
    """The architecture's UNet; nothing is allocated."""
    with torch.device("meta"):
        return UNet2DConditionModel(**architecture.unet)


def skeleton_of(part: Any) -> Any:
    """A network like this one.

    Args:
        part: a diffusers model, such as a pipeline's ``unet`` or ``vae``.
    """
    with torch.device("meta"):
        return type(part).from_config(part.config)


def _fill(
    module: torch.nn.Module, stream: str, name: str, *, dtype: torch.dtype, seed: int
) -> None:
    """Gives one parameter its values; streams are apart, so order and threads change nothing."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    shape = tuple(module.get_parameter(name).shape)
    if name.endswith("bias"):
        value = torch.zeros(shape, dtype=dtype)
    elif len(shape) == 1:
        value = torch.ones(shape, dtype=dtype)
    else:
        embedding = isinstance(owner, torch.nn.Embedding)
        deviation = 0.02 if embedding else 1 / math.sqrt(math.prod(shape[1:]))
        value = torch.empty(shape, dtype=dtype)
        _draw_uniform(value.view(-1), deviation * math.sqrt(3), stream, seed)
    owner.register_parameter(leaf, torch.nn.Parameter(value, requires_grad=False))


def _draw_uniform(target: torch.Tensor, bound: float, stream: str, seed: int) -> None:
    """Fills a flat tensor with uniform numbers of (-bound, bound), chunk by chunk."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    for start in range(0, len(target), 2 * _RAW_CHUNK):
        part = target[start : start + 2 * _RAW_CHUNK]
        raw = bits.random_raw((len(part) + 1) // 2).astype("<u8", copy=False).view("<u4")
        part.copy_(torch.from_numpy(_uniform(raw[: len(part)], bound)))


def _uniform(raw: np.ndarray[Any, np.dtype[np.uint32]], bound: float) -> Float32[np.ndarray, " n"]:
    # 24 bits and a half: every value is exact in float32, and the ends are symmetric
    centred = (raw >> np.uint32(8)).astype(np.float32) - np.float32(2**23 - 0.5)
    return centred * np.float32(bound / 2**23)
