"""Pictures drawn again by the model: noised to a strength and denoised with a caption.

Attention is recorded on the way, so that heatmaps can be scored on pictures whose exact masks are
known. The process is diffusers' image-to-image pipeline (SDEdit, arXiv 2108.01073) with the mean of
the autoencoder's posterior for a sample of it and noise of each picture's own seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.listening import listening
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.probe import encode
from ovamgen.diffusion.recorder import Listener
from ovamgen.diffusion.schedulers import scheduler_class
from ovamgen.diffusion.synthesis import Synthesiser, initial_noise, negative_prompts
from ovamgen.errors import ConfigError
from ovamgen.records import ModelInfo


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Recreated:
    """One picture as the model drew it again."""

    image: UInt8[np.ndarray, "H W 3"]
    """The picture, at the size that it was drawn at."""
    difference: float
    """Mean absolute difference to the picture that was noised, in levels of 0 to 255."""


class Recreator:
    """Draws pictures again with one pipeline, one configuration and one strength.

    Args:
        loaded: the pipeline.
        settings: steps, guidance, scheduler, negative prompt; height and width where a picture is
            to be drawn at another size than `size_for` gives.
        strength: share of the steps that are gone through, in (0, 1]; 1 is nearly pure noise.
        probe: timesteps; where there are some a picture is looked at with noise of each of them and
            not drawn again, and the strength does not matter.

    Raises:
        ConfigError: unknown scheduler, or a strength of less than one step.
    """

    def __init__(
        self,
        loaded: LoadedPipeline,
        settings: SynthesisConfig,
        strength: float,
        probe: Sequence[int] = (),
    ) -> None:
        if not probe:
            check_strength(strength, settings.steps)
        self._probe = tuple(probe)
        self._settings = settings
        self._strength = strength
        self._info = loaded.info
        # pictures are of any size: that of the settings is looked at by `size_for`
        free = settings.model_copy(update={"height": None, "width": None, "safety": "off"})
        self._synthesiser = Synthesiser(loaded, free)
        self._scheduler_class: Any = None if probe else scheduler_class(settings.scheduler)
        self._own_scheduler = loaded.pipe.scheduler
        own: Any = loaded.pipe
        zeros = getattr(own.config, "force_zeros_for_empty_prompt", False)
        self._pipe: Any = (
            _FromLatentsXL(**own.components, force_zeros_for_empty_prompt=zeros)
            if loaded.family.size_ids
            else _FromLatents(**own.components, requires_safety_checker=False)
        )
        self._pipe.set_progress_bar_config(disable=True)

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) at which a picture of such a size is drawn.

        Its shorter side becomes the model's own, the other one follows, both rounded to what the
        model can draw; sides that the settings name are taken as they are.
        """
        step = max(8, self._info.vae_scale_factor)
        fitted = fitted_size(self._info, (height, width), step)
        asked = self._settings.height, self._settings.width
        sides = [own or side for own, side in zip(asked, fitted, strict=True)]
        return sides[0], sides[1]

    def draw(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        prompt: str,
        seed: int,
        listeners: Sequence[Listener] = (),
    ) -> Recreated:
        """The picture drawn again, or itself; recording attention changes no bit of it.

        Args:
            image: RGB.
            prompt: its caption; what exceeds the text encoder's length is cut.
            seed: of the noise, 0 <= seed < 2**63.
            listeners: take the queries of every cross-attention layer in every UNet call, or the
                features of those that they want.

        Raises:
            MethodError: a branch does not exist, or the UNet has no cross-attention.
            SampleError: the drawing is not finite.
        """
        height, width = self.size_for(*image.shape[:2])
        fitted = fit(image, (height, width))
        if self._probe:
            encoded = self._synthesiser.encode(fitted[None])
            self._synthesiser.probe(encoded.latents, [prompt], [seed], self._probe, listeners)
            return Recreated(image=fitted, difference=0.0)
        pipe, settings = self._pipe, self._settings
        pixels = torch.from_numpy(fitted.astype(np.float32) / 255).permute(2, 0, 1)[None]
        pixels = pixels.to(pipe.device, pipe.vae.dtype)
        pipe.scheduler = self._scheduler_class.from_config(self._own_scheduler.config)
        with listening(pipe.unet, self._synthesiser.guided, listeners):
            pipe.start_latents = encode(pipe.vae, pixels * 2 - 1).to(pipe.unet.dtype)
            pipe.start_noise = initial_noise([seed], tuple(pipe.start_latents.shape[1:]))
            final = pipe(
                prompt=[prompt],
                negative_prompt=negative_prompts(pipe, settings.negative_prompt, 1),
                image=pixels,
                strength=self._strength,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                generator=[torch.Generator("cpu").manual_seed(seed)],
                output_type="latent",
                **self._synthesiser.size_ids,
            ).images
        drawn = self._synthesiser.receive(self._synthesiser.decode(final))
        if drawn.errors[0] is not None:
            raise drawn.errors[0]
        difference = np.abs(drawn.images[0].astype(np.int16) - fitted.astype(np.int16)).mean()
        return Recreated(image=drawn.images[0], difference=float(difference))


def fitted_size(info: ModelInfo, size: tuple[int, int], step: int) -> tuple[int, int]:
    """The (height, width) at which a model is given a picture: its shorter side the model's own.

    Args:
        info: of the model.
        size: (height, width) of the picture, in pixels.
        step: both sides are rounded to multiples of it, in pixels.
    """
    scale = min(info.height, info.width) / min(size)
    height, width = (max(step, round(side * scale / step) * step) for side in size)
    return height, width


def fit(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "{size[0]} {size[1]} 3"]:
    """The picture at another (height, width); it itself where it has that one."""
    if image.shape[:2] == size:
        return image
    picture = Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(picture)


def check_strength(strength: float, steps: int) -> None:
    """Checks that the strength leaves at least one step to go.

    Raises:
        ConfigError: it does not, or is no share at all.
    """
    if not 0 < strength <= 1:
        raise ConfigError(f"--strength must be above 0 and at most 1, got {strength:g}")
    if int(steps * strength) < 1:
        raise ConfigError(
            f"a strength of {strength:g} leaves no step of {steps} to go: at least {1 / steps:.3g} "
            "is needed, or more steps"
        )


class _StartLatents:
    """Starts from latents and noise that are given, whatever their number of channels."""

    scheduler: Any
    start_latents: Tensor
    start_noise: Tensor

    def prepare_latents(self, image: Tensor, timestep: Tensor, *_: Any, **__: Any) -> Tensor:
        """The noised latents of the first timestep."""
        noise = self.start_noise.to(self.start_latents.device, self.start_latents.dtype)
        noised: Tensor = self.scheduler.add_noise(self.start_latents, noise, timestep)
        return noised


class _FromLatents(_StartLatents, StableDiffusionImg2ImgPipeline):  # type: ignore[misc]  # diffusers has no types
    """Image-to-image of Stable Diffusion 1 and 2."""


class _FromLatentsXL(_StartLatents, StableDiffusionXLImg2ImgPipeline):  # type: ignore[misc]  # diffusers has no types
    """Image-to-image of Stable Diffusion XL."""
