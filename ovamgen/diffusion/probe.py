"""Finished images, noised to chosen timesteps and looked at once each by the UNet.

Whose attention is read need not be what draws: a picture that was there before, or an image of a
model of few steps, whose own calls see mostly noise. Noising to one timestep for one call is how
DatasetDM (arXiv 2308.06160) and DiffSegmenter (arXiv 2309.02773) read attention of real pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import (
    retrieve_latents,
)
from jaxtyping import Float, Float32, Int64
from torch import Tensor


class ProbeScheduler(DDPMScheduler):  # type: ignore[misc]  # diffusers has no types
    """A scheduler that goes nowhere: at each timestep the same latents, noised to it.

    With it any pipeline of diffusers makes the UNet calls that it would make in a drawing, with its
    own text, halves and size ids, and its latents come out as they went in.
    """

    def look_at(
        self,
        latents: Float[Tensor, "B C h w"],
        noise: Float32[Tensor, "T B C h w"],
        timesteps: Sequence[int],
    ) -> None:
        """Sets what is looked at; the noise of each call is added as training adds it."""
        self.errors: list[Float[Tensor, " B"]] = []
        """Mean squared errors of what the UNet predicted, call by call, where that is asked."""
        self.keeps_errors = False
        self._latents = latents
        self._noise = dict(zip(timesteps, noise, strict=True))
        self._chosen = list(timesteps)

    def set_timesteps(self, *_: Any, device: Any = None, **__: Any) -> None:
        """The timesteps that were chosen, in their order."""
        self.timesteps = torch.tensor(self._chosen, device=device)
        self.num_inference_steps = len(self._chosen)

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The latents at a timestep, as often as the pipeline has halves."""
        noised = self.add_noise(self._latents, *self._noise_at(timestep))
        return torch.cat([noised] * (len(sample) // len(noised)))

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **_: Any) -> tuple[Tensor]:
        """The latents as they are: nothing is drawn."""
        if self.keeps_errors:
            noise, at = self._noise_at(timestep)
            wanted = {"epsilon": noise, "sample": self._latents}.get(self.config.prediction_type)
            if wanted is None:
                wanted = self.get_velocity(self._latents, noise, at)
            error = (model_output.float() - wanted.float()) ** 2
            self.errors.append(error.flatten(1).mean(1))
        return (sample,)

    def _noise_at(self, timestep: Any) -> tuple[Float[Tensor, "B C h w"], Int64[Tensor, " B"]]:
        """The noise of a timestep, and the timestep as often as there are images."""
        noise = self._noise[int(timestep)].to(self._latents.device, self._latents.dtype)
        return noise, torch.full((len(noise),), int(timestep), device=noise.device)


@torch.no_grad()
def encode(vae: Any, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
    """Scaled latents of pictures: the mean of the autoencoder's posterior, no sample of it.

    Args:
        vae: of a diffusers pipeline.
        pixels: in [-1, 1], of its device and dtype.
    """
    encoded = retrieve_latents(vae.encode(pixels), sample_mode="argmax")
    return encoded * vae.config.scaling_factor


def probe_scheduler(
    own: Any, latents: Float[Tensor, "B C h w"], seeds: Sequence[int], timesteps: Sequence[int]
) -> ProbeScheduler:
    """The scheduler that shows latents at chosen timesteps.

    Args:
        own: the pipeline's scheduler, whose noise schedule is taken.
        latents: of finished images.
        seeds: one for each image.
        timesteps: 0 <= each < 1000, none twice.
    """
    scheduler = ProbeScheduler.from_config(own.config)
    shape = latents.shape[1:]
    noise = torch.stack(
        [torch.stack([_noise(seed, t, shape) for seed in seeds]) for t in timesteps]
    )
    scheduler.look_at(latents, noise, timesteps)
    return scheduler


def _noise(seed: int, timestep: int, shape: Sequence[int]) -> Float32[Tensor, "C h w"]:
    """Noise of the seed and the timestep alone; an image may be drawn from the seed's own."""
    digest = hashlib.sha256(f"probe:{seed}:{timestep}".encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(tuple(shape), generator=generator)
