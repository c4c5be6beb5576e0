"""Prompts and seeds to images, each sample with its own noise; attention goes to a sink.

The drawing itself is diffusers' StableDiffusionPipeline; this module adds noise per sample,
decoding, the safety checker's verdict without its black squares, and a check for broken numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.recorder import AttentionSink, Branch, CrossAttentionRecorder
from ovamgen.diffusion.schedulers import scheduler_class
from ovamgen.errors import ConfigError, SampleError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drawn:
    """One batch of images."""

    images: UInt8[np.ndarray, "B H W 3"]
    """Rounded to 8 bits; all zeros for a sample that failed."""
    pixels: Float32[np.ndarray, "B H W 3"]
    """The same before rounding, in [0, 1]."""
    unsafe: tuple[bool, ...]
    """The safety checker's verdicts; all False where none ran."""
    errors: tuple[SampleError | None, ...]
    """Why a sample is not usable, or None."""


def initial_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Float32[Tensor, "B C h w"]:
    """Standard normal noise on the CPU, a function of each sample's seed alone.

    Args:
        seeds: one for each sample, 0 <= seed < 2**63.
        shape: (channels, latent height, latent width).
    """
    return torch.stack([torch.randn(shape, generator=_generator(seed)) for seed in seeds])


class Synthesiser:
    """Draws batches with one pipeline and one configuration.

    Args:
        loaded: the pipeline.
        settings: steps, guidance, scheduler, size, negative prompt, safety policy.

    Raises:
        ConfigError: unknown scheduler, or a size that the pipeline cannot draw.
    """

    def __init__(self, loaded: LoadedPipeline, settings: SynthesisConfig) -> None:
        self._pipe = loaded.pipe
        self._settings = settings
        self._scheduler_class = scheduler_class(settings.scheduler)
        self._factor = loaded.info.vae_scale_factor
        self.height = settings.height or loaded.info.height
        self.width = settings.width or loaded.info.width
        step = max(8, self._factor)
        for name, size in (("height", self.height), ("width", self.width)):
            if size % step:
                raise ConfigError(
                    f"{name} must be a multiple of {step} for {loaded.info.model}, got {size}: "
                    f"try {max(step, size // step * step)}"
                )

    @property
    def guided(self) -> bool:
        """Whether a batch has an unconditional half (guidance above 1)."""
        return self._settings.guidance > 1

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one sample's latents."""
        channels = int(self._pipe.unet.config.in_channels)
        return channels, self.height // self._factor, self.width // self._factor

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        sink: AttentionSink | None = None,
        branch: Branch = "unconditional",
        latents: Float[Tensor, "B C h w"] | None = None,
    ) -> Drawn:
        """One image for each prompt; recording attention changes no bit of it.

        Args:
            prompts: what to draw; what exceeds the text encoder's length is cut.
            seeds: one for each prompt; they also seed schedulers that draw noise of their own.
            sink: takes the queries of every cross-attention layer in every UNet call.
            branch: the half of the guided batch that the sink sees.
            latents: standard normal noise to start from instead of the seeds'.

        Raises:
            MethodError: the branch does not exist, or the UNet has no cross-attention.
        """
        noise = initial_noise(seeds, self.latent_shape) if latents is None else latents
        pipe, settings = self._pipe, self._settings
        recording: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if sink is not None:
            recording = CrossAttentionRecorder(pipe.unet, branch, self.guided, sink)
        with self._fresh_scheduler(), recording:
            final = pipe(
                prompt=list(prompts),
                # one string would be taken for one image, not for all
                negative_prompt=[settings.negative_prompt] * len(prompts),
                height=self.height,
                width=self.width,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                generator=[_generator(seed) for seed in seeds],
                latents=noise.to(pipe.device, pipe.unet.dtype),
                output_type="latent",
            ).images
        return self._finish(final)

    @contextlib.contextmanager
    def _fresh_scheduler(self) -> Iterator[None]:
        """A scheduler keeps what it saw: each drawing gets a new one, the pipeline its own back."""
        own = self._pipe.scheduler
        self._pipe.scheduler = self._scheduler_class.from_config(own.config)
        try:
            yield
        finally:
            self._pipe.scheduler = own

    def _finish(self, latents: Float[Tensor, "B C h w"]) -> Drawn:
        """Decodes sample by sample: a batch of large images would need the memory of all."""
        pixels, unsafe, errors = [], [], []
        for index in range(len(latents)):
            sample = latents[index : index + 1]
            decoded = self._decode(sample)
            error = _broken(sample, "latents") or _broken(decoded, "pixels")
            errors.append(error)
            if error is not None:
                decoded = torch.full_like(decoded, -1.0)
            unsafe.append(error is None and self._is_unsafe(decoded))
            scaled = (decoded[0].float() / 2 + 0.5).clamp(0, 1)
            pixels.append(scaled.permute(1, 2, 0).cpu().numpy())
        array = np.stack(pixels)
        return Drawn(
            images=(array * 255).round().astype(np.uint8),
            pixels=array,
            unsafe=tuple(unsafe),
            errors=tuple(errors),
        )

    @torch.no_grad()
    def _decode(self, latents: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 3 H W"]:
        vae = self._pipe.vae
        return vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]

    @torch.no_grad()
    def _is_unsafe(self, decoded: Float[Tensor, "1 3 H W"]) -> bool:
        if self._settings.safety == "off" or self._pipe.safety_checker is None:
            return False
        # the checker blackens what it is given: it gets a copy
        _, verdicts = self._pipe.run_safety_checker(
            decoded.clone(), self._pipe.device, decoded.dtype
        )
        return bool(verdicts[0])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def _broken(values: Tensor, what: str) -> SampleError | None:
    count = int((~torch.isfinite(values)).sum())
    if not count:
        return None
    return SampleError(
        f"finite {what} expected, got {count} of {values.numel()} NaN or infinite numbers "
        f"({values.dtype}): try another seed, or model.dtype float32 or bfloat16"
    )
