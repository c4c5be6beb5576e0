"""Prompts and seeds to images, each sample with its own noise; attention goes to a sink.

The drawing itself is that of the model's diffusers pipeline; this module adds noise per sample,
decoding, the safety checker's verdict without its black squares, and a check for broken numbers.
Work is queued on the device and comes back in one copy: the host waits once a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor

from ovamgen.config import NO_SCHEDULER, SynthesisConfig
from ovamgen.diffusion.drawing import Drawing, Drawn
from ovamgen.diffusion.facts import check_size_ids
from ovamgen.diffusion.listening import listening
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.probe import encode, probe_scheduler
from ovamgen.diffusion.recorder import Listener
from ovamgen.diffusion.schedulers import FEW_STEPS, check_steps, scheduler_class
from ovamgen.errors import ConfigError, SampleError


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
        decode_images: images decoded at once; other numbers give other last bits.

    Raises:
        ConfigError: unknown scheduler, one that cannot draw in so many steps, a size that the
            pipeline cannot draw, or size ids that it does not take.
    """

    def __init__(
        self, loaded: LoadedPipeline, settings: SynthesisConfig, *, decode_images: int = 1
    ) -> None:
        self._pipe = loaded.pipe
        self._decode_images = decode_images
        self._checker = loaded.safety_checker
        _keep_thresholds_on_host(self._checker)
        self._settings = settings
        self.size_ids = _size_ids(loaded, settings)
        """What the pipeline is told of sizes, beside the size to draw."""
        draws = settings.scheduler != NO_SCHEDULER
        self._scheduler_class: Any = scheduler_class(settings.scheduler) if draws else None
        if settings.scheduler.removesuffix("Scheduler") in FEW_STEPS:
            check_steps(loaded.pipe, settings.scheduler, settings.steps)
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
        """Whether a batch has an unconditional half: guidance above 1.

        A UNet that takes the guidance as a number (distilled, as LCM) never gives it two halves.
        """
        return self._settings.guidance > 1 and self._pipe.unet.config.time_cond_proj_dim is None

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
        listeners: Sequence[Listener] = (),
        latents: Float[Tensor, "B C h w"] | None = None,
        probe: Sequence[int] = (),
    ) -> Drawn:
        """One image for each prompt: `begin` and `receive` in one."""
        return self.receive(
            self.begin(prompts, seeds, listeners=listeners, latents=latents, probe=probe)
        )

    def begin(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        listeners: Sequence[Listener] = (),
        latents: Float[Tensor, "B C h w"] | None = None,
        probe: Sequence[int] = (),
    ) -> Drawing:
        """One image for each prompt, drawn and decoded as far as work can be queued on a GPU.

        Recording attention changes no bit of the images.

        Args:
            prompts: what to draw; what exceeds the text encoder's length is cut.
            seeds: one for each prompt; they also seed schedulers that draw noise of their own.
            listeners: take the queries of every cross-attention layer in every UNet call, or the
                features of those that they want.
            latents: standard normal noise to start from instead of the seeds'.
            probe: timesteps; where there are some the listeners hear the finished latents, noised
                to each of them, and not the drawing.

        Raises:
            MethodError: a listener's half does not exist, or the UNet has no cross-attention.
        """
        noise = initial_noise(seeds, self.latent_shape) if latents is None else latents
        scheduler = self._scheduler_class.from_config(self._pipe.scheduler.config)
        with listening(self._pipe.unet, self.guided, () if probe else listeners):
            final = self._run(scheduler, prompts, seeds, noise, (self.height, self.width))
        if probe:
            self.probe(final, prompts, seeds, probe, listeners)
        return self.decode(final)

    def encode(self, images: UInt8[np.ndarray, "B H W 3"]) -> Drawing:
        """Pictures as if they had been drawn: their latents, and themselves in place of decoded.

        Args:
            images: RGB, of a size that the model can draw.
        """
        vae, device = self._pipe.vae, self._pipe.device
        pixels = torch.tensor(images, device=device).permute(0, 3, 1, 2).float() / 127.5 - 1
        parts = torch.split(pixels.to(vae.dtype), self._decode_images)
        return Drawing(torch.cat([encode(vae, part) for part in parts]), pixels)

    def probe(
        self,
        latents: Float[Tensor, "B C h w"],
        prompts: Sequence[str],
        seeds: Sequence[int],
        timesteps: Sequence[int],
        listeners: Sequence[Listener],
    ) -> None:
        """Lets listeners hear finished latents: one UNet call at each timestep.

        Args:
            latents: of images of any one size that the model can draw.
            prompts: one for each image.
            seeds: of the noise that is added, one for each image.
            timesteps: as `ovamgen.diffusion.probe.probe_scheduler` takes them.
            listeners: as for `begin`.

        Raises:
            MethodError: as for `begin`.
        """
        with listening(self._pipe.unet, self.guided, listeners):
            self._look(latents, prompts, seeds, timesteps)

    def noise_errors(
        self,
        latents: Float[Tensor, "B C h w"],
        prompts: Sequence[str],
        seeds: Sequence[int],
        timesteps: Sequence[int],
    ) -> Float32[Tensor, "T B"]:
        """How far the UNet is from what was added to finished latents, told a prompt for each.

        Args:
            latents: as for `probe`.
            prompts: one for each image; no guidance.
            seeds: of the noise; equal seeds, equal noise.
            timesteps: T of them.

        Returns:
            Mean squared errors over the latents, in the terms that the model predicts.
        """
        return torch.stack(self._look(latents, prompts, seeds, timesteps, errors=True))

    def _look(
        self,
        latents: Float[Tensor, "B C h w"],
        prompts: Sequence[str],
        seeds: Sequence[int],
        timesteps: Sequence[int],
        *,
        errors: bool = False,
    ) -> list[Float[Tensor, " B"]]:
        """The UNet's errors at each timestep, without guidance, where they are asked for."""
        latents = latents.to(self._pipe.device, self._pipe.unet.dtype)
        scheduler = probe_scheduler(self._pipe.scheduler, latents, seeds, timesteps)
        scheduler.keeps_errors = errors
        height, width = (side * self._factor for side in latents.shape[2:])
        guidance = 1.0 if errors else None
        self._run(scheduler, prompts, seeds, latents, (height, width), guidance)
        return scheduler.errors

    def _run(
        self,
        scheduler: Any,
        prompts: Sequence[str],
        seeds: Sequence[int],
        latents: Float[Tensor, "B C h w"],
        size: tuple[int, int],
        guidance: float | None = None,
    ) -> Float[Tensor, "B C h w"]:
        """What the pipeline makes of the latents; a scheduler keeps what it saw, so it is new."""
        pipe, settings = self._pipe, self._settings
        own = pipe.scheduler
        pipe.scheduler = scheduler
        try:
            final: Tensor = pipe(
                prompt=list(prompts),
                negative_prompt=negative_prompts(pipe, settings.negative_prompt, len(prompts)),
                height=size[0],
                width=size[1],
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance if guidance is None else guidance,
                generator=[_generator(seed) for seed in seeds],
                latents=latents.to(pipe.device, pipe.unet.dtype),
                output_type="latent",
                **self.size_ids,
            ).images
        finally:
            pipe.scheduler = own
        return final

    def receive(self, drawing: Drawing) -> Drawn:
        """The images of a batch, checked; waits for the device."""
        broken, *beside, images = drawing.send().arrays()
        errors = tuple(
            _error("latents", int(in_latents), drawing.latents)
            or _error("pixels", int(in_pixels), drawing.decoded)
            for in_latents, in_pixels in broken.T
        )
        images[[error is not None for error in errors]] = 0
        verdicts = self._verdicts(images)
        return Drawn(
            images=images,
            unsafe=tuple(e is None and v for e, v in zip(errors, verdicts, strict=True)),
            errors=errors,
            beside=tuple(beside),
            decoded=drawing.decoded,
        )

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Drawing:
        """The images of drawn latents, of any size, as far as work can be queued on a GPU."""
        vae = self._pipe.vae
        # in slices: a batch of large images would need the memory of all
        scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
        parts = scaled.split(self._decode_images)
        decoded = torch.cat([vae.decode(part, return_dict=False)[0] for part in parts])
        return Drawing(latents, decoded)

    @torch.no_grad()
    def _verdicts(self, images: UInt8[np.ndarray, "B H W 3"]) -> Sequence[bool]:
        """Whether the safety checker flags each image: one forward pass for the batch."""
        pipe = self._pipe
        if self._settings.safety == "off" or self._checker is None:
            return [False] * len(images)
        pictures = [Image.fromarray(image) for image in images]
        given = pipe.feature_extractor(pictures, return_tensors="pt").pixel_values
        # the checker blackens what it is given as images: it gets nothing to blacken
        _, verdicts = self._checker(
            clip_input=given.to(pipe.device, pipe.vae.dtype), images=torch.empty(len(images), 0)
        )
        return [bool(verdict) for verdict in verdicts]


def negative_prompts(pipe: Any, text: str, images: int) -> list[str] | None:
    """The negative prompt as a pipeline takes it for a batch.

    Where a pipeline of XL has zeros for no prompt, none is what it must be given: an empty text
    would be encoded.

    Args:
        pipe: of diffusers.
        text: the negative prompt.
        images: of the batch; one string would be taken for one image, not for all.
    """
    if not text and getattr(pipe.config, "force_zeros_for_empty_prompt", False):
        return None
    return [text] * images


def _size_ids(loaded: LoadedPipeline, settings: SynthesisConfig) -> dict[str, tuple[int, int]]:
    """What XL's pipeline is told of sizes; its defaults are the image's own size and no crop."""
    asked = {"original_size": settings.original_size, "crops_coords_top_left": settings.crop}
    given = {name: pair for name, pair in asked.items() if pair is not None}
    if given:
        check_size_ids(loaded.info.model, loaded.family.size_ids)
    return given


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def _keep_thresholds_on_host(checker: Any) -> None:
    """The checker reads its 20 thresholds for each image: on a device, each one is waited for."""
    if checker is not None:
        for name in ("concept_embeds_weights", "special_care_embeds_weights"):
            thresholds = getattr(checker, name).data.cpu()
            checker.register_parameter(name, torch.nn.Parameter(thresholds, requires_grad=False))


def _error(what: str, count: int, values: Float[Tensor, "B ..."]) -> SampleError | None:
    if not count:
        return None
    return SampleError(
        f"finite {what} expected, got {count} of {values[0].numel()} NaN or infinite numbers "
        f"({values.dtype}): try another seed, or model.dtype float32 or bfloat16"
    )
