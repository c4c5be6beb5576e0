"""Is it learning: errors with right and shuffled captions by timestep, and grids of samples.

The stop/go test of a run: where the caption does not lower the error at high noise, the text is
ignored, and more time will not help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from jaxtyping import Float, Float32, UInt8

from recipes.mini.captions import names_of
from recipes.mini.catalogue import CLASSES
from recipes.mini.composites import Composite
from recipes.mini.latents import CELLS, LatentSpace
from recipes.mini.model import (
    Networks,
    alphas_cumprod,
    autocast,
    image_order,
    scheduler_config,
)
from recipes.mini.tokenizer import tokenize
from recipes.mini.training import prediction_errors

TIMESTEP_BINS = ((0, 200), (200, 400), (400, 600), (600, 800), (800, 1000))
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionGap:
    """Mean v errors on held-out pictures of one object, one number a timestep bin."""

    right: tuple[float, ...]
    shuffled: tuple[float, ...]
    """The same pictures, noise and timesteps with captions of other pictures, of another class (and
    mostly another background)."""

    @property
    def percent(self) -> tuple[float, ...]:
        """How much higher the error is with the wrong caption, in percent of the right one's."""
        pairs = zip(self.right, self.shuffled, strict=True)
        return tuple(100 * (wrong / right - 1) for right, wrong in pairs)

    def row(self) -> dict[str, object]:
        """Error and gap of each bin, as columns of ``probes.csv``."""
        columns: dict[str, object] = {}
        for (low, high), right, gap in zip(TIMESTEP_BINS, self.right, self.percent, strict=True):
            columns[f"error_{low}_{high}"] = f"{right:.5f}"
            columns[f"gap_percent_{low}_{high}"] = f"{gap:.2f}"
        return columns

    def __str__(self) -> str:
        """One line for people."""
        bins = ", ".join(
            f"{low}-{high}: {gap:.1f}"
            for (low, high), gap in zip(TIMESTEP_BINS, self.percent, strict=True)
        )
        return f"caption gap in percent by timestep: {bins}"


@torch.no_grad()
def caption_gap(
    networks: Networks,
    composites: list[Composite],
    space: LatentSpace,
    tokenizer: Any,
    device: torch.device,
) -> CaptionGap:
    """The gap over the composites (of one object each), every one at one timestep of every bin."""
    images = np.stack([composite.image for composite in composites])
    latents = torch.from_numpy(space.encode(images)).to(device)
    partners = other_class_partners([composite.class_ids[0] for composite in composites])
    tokens = torch.from_numpy(tokenize(tokenizer, [c.caption for c in composites])).to(device)
    generator = torch.Generator().manual_seed(0)
    alphas = alphas_cumprod(device)
    right: list[float] = []
    shuffled: list[float] = []
    for low, high in TIMESTEP_BINS:
        noise = torch.randn(latents.shape, generator=generator).to(device)
        timesteps = torch.randint(low, high, (len(latents),), generator=generator).to(device)
        for ids, means in ((tokens, right), (tokens[partners], shuffled)):
            errors = [
                prediction_errors(
                    networks.unet,
                    networks.text_encoder,
                    latents[part],
                    ids[part],
                    timesteps[part],
                    noise[part],
                    alphas,
                )
                for part in _parts(len(latents))
            ]
            means.append(float(torch.cat(errors).mean()))
    return CaptionGap(right=tuple(right), shuffled=tuple(shuffled))


def other_class_partners(class_ids: list[int]) -> list[int]:
    """For each picture the index of one of another class: a cyclic shift of them, sorted by class.

    Raises:
        ValueError: one class has more than half of the pictures.
    """
    order = sorted(range(len(class_ids)), key=lambda i: (class_ids[i], i))
    largest = max(class_ids.count(class_id) for class_id in set(class_ids))
    if 2 * largest > len(class_ids):
        raise ValueError(f"no class may have more than half of the pictures, got {largest}")
    partners = [0] * len(order)
    for place, index in enumerate(order):
        partners[index] = order[(place + largest) % len(order)]
    return partners


@torch.no_grad()
def draw_latents(
    networks: Networks,
    prompts: list[str],
    tokenizer: Any,
    device: torch.device,
    *,
    steps: int = 20,
    guidance: float = 4.0,
    seed: int = 0,
) -> Float32[np.ndarray, "n channels 16 16"]:
    """Latents drawn for the prompts with DPM-Solver++ (2M) and classifier-free guidance."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(prompts), networks.unet.config.in_channels, CELLS, CELLS)
    initial = torch.randn(shape, generator=generator).to(device)
    ids = torch.from_numpy(tokenize(tokenizer, prompts)).to(device)
    empty = torch.from_numpy(tokenize(tokenizer, [""])).to(device).expand_as(ids)
    parts = [
        _draw(networks, initial[part], ids[part], empty[part], steps=steps, guidance=guidance)
        for part in _parts(len(prompts))
    ]
    return torch.cat(parts).cpu().numpy()


def class_prompts() -> list[str]:
    """``a photograph of a ...`` for each class, in the order of VOC ids."""
    names = [names_of(entry)[0] for entry in CLASSES]
    return [f"a photograph of {'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]


def sample_grid(
    networks: Networks, space: LatentSpace, tokenizer: Any, device: torch.device, rows: int = 4
) -> UInt8[np.ndarray, "height width 3"]:
    """``rows`` samples of each of the 20 classes, decoded linearly, ten classes a row."""
    prompts = class_prompts() * rows
    images = space.decode(draw_latents(networks, prompts, tokenizer, device))
    return tile(images, columns=10)


def tile(
    images: UInt8[np.ndarray, "n side side 3"], columns: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Images of one size as one picture, row by row; the last row is filled up with black."""
    rows = -(-len(images) // columns)
    side = images.shape[1]
    padded = np.zeros((rows * columns, side, side, 3), np.uint8)
    padded[: len(images)] = images
    grid = padded.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * side, columns * side, 3)


def _draw(
    networks: Networks,
    latents: Float[torch.Tensor, "B channels 16 16"],
    ids: torch.Tensor,
    empty: torch.Tensor,
    *,
    steps: int,
    guidance: float,
) -> Float[torch.Tensor, "B channels 16 16"]:
    scheduler = DPMSolverMultistepScheduler(**scheduler_config())
    scheduler.set_timesteps(steps)
    with autocast(latents.device):
        context = networks.text_encoder(torch.cat([empty, ids])).last_hidden_state
        for timestep in scheduler.timesteps:
            both = torch.cat([latents, latents]).contiguous(
                memory_format=image_order(latents.device)
            )
            predicted = networks.unet(both, timestep.to(latents.device), context).sample.float()
            uncond, cond = predicted.chunk(2)
            guided = uncond + guidance * (cond - uncond)
            latents = scheduler.step(guided, timestep, latents).prev_sample
    return latents


def _parts(length: int) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, length, _BATCH)]
