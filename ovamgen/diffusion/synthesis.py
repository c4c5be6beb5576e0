"""Prompts and seeds to images, each sample with its own noise; attention goes to a sink.

The drawing itself is that of the model's diffusers pipeline; this module adds noise per sample,
decoding, the safety checker's verdict without its black squares, and a check for broken numbers.
Work is queued on the device and comes back in one copy: the host waits once a batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.facts import check_size_ids
from ovamgen.diffusion.listening import listening
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.recorder import Listener
from ovamgen.diffusion.schedulers import FEW_STEPS, check_steps, scheduler_class
from ovamgen.errors import ConfigError, SampleError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Drawn:
    """One batch of images."""

    images: UInt8[np.ndarray, "B H W 3"]
    """Rounded to 8 bits; all zeros for a sample that failed."""
    unsafe: tuple[bool, ...]
    """The safety checker's verdicts; all False where none ran."""
    errors: tuple[SampleError | None, ...]
    """Why a sample is not usable, or None."""
    beside: tuple[np.ndarray, ...] = ()
    """What came back with the images."""
    decoded: Float[Tensor, "B 3 H W"]
    """As the VAE gave them, on the device."""

    @property
    def pixels(self) -> Float32[np.ndarray, "B H W 3"]:
        """The images before rounding, in [0, 1]; all zeros for a sample that failed."""
        pixels = _unit_range(self.decoded).cpu().numpy()
        pixels[[error is not None for error in self.errors]] = 0
        return pixels


class OneCopy:
    """Tensors of one device on their way to the host, as one copy that nobody waits for yet.

    Args:
        tensors: of numbers as wide as or narrower than those of the tensor before.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors])
        on_gpu = flat.device.type == "cuda"
        self._like = [(tensor.dtype, tensor.shape, tensor.nbytes) for tensor in tensors]
        self._bytes, self._arrived = flat, None
        if on_gpu:
            pinned = torch.empty(flat.shape, dtype=torch.uint8, pin_memory=True)
            self._bytes = pinned.copy_(flat, non_blocking=True)
            # a thread that waits for the event leaves its core to others
            self._arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch leaves it so
            self._arrived.record()

    def arrays(self) -> list[np.ndarray]:
        """The tensors as arrays, once they are here."""
        if self._arrived is not None:
            self._arrived.synchronize()
        found, start = [], 0
        for dtype, shape, nbytes in self._like:
            part = self._bytes[start : start + nbytes].view(dtype)
            found.append(part.reshape(shape).numpy())
            start += nbytes
        return found


class Drawing:
    """A batch that is queued on its device; `Synthesiser.receive` waits for it."""

    def __init__(
        self, latents: Float[Tensor, "B C h w"], decoded: Float[Tensor, "B 3 H W"]
    ) -> None:
        self.latents = latents
        self.decoded = decoded
        self._copy: OneCopy | None = None

    def send(self, *beside: Tensor) -> OneCopy:
        """What is read of the batch, on its way to the host, and other tensors with it.

        Args:
            beside: of numbers of at most 64 bits, the wider ones first.
        """
        if self._copy is None:
            broken = torch.stack([_count_broken(self.latents), _count_broken(self.decoded)])
            images = (_unit_range(self.decoded) * 255).round().to(torch.uint8)
            self._copy = OneCopy([broken, *beside, images])
        return self._copy


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
        self._scheduler_class = scheduler_class(settings.scheduler)
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
    ) -> Drawn:
        """One image for each prompt: `begin` and `receive` in one."""
        return self.receive(self.begin(prompts, seeds, listeners=listeners, latents=latents))

    def begin(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        listeners: Sequence[Listener] = (),
        latents: Float[Tensor, "B C h w"] | None = None,
    ) -> Drawing:
        """One image for each prompt, drawn and decoded as far as work can be queued on a GPU.

        Recording attention changes no bit of the images.

        Args:
            prompts: what to draw; what exceeds the text encoder's length is cut.
            seeds: one for each prompt; they also seed schedulers that draw noise of their own.
            listeners: take the queries of every cross-attention layer in every UNet call, or the
                features of those that they want.
            latents: standard normal noise to start from instead of the seeds'.

        Raises:
            MethodError: a listener's half does not exist, or the UNet has no cross-attention.
        """
        noise = initial_noise(seeds, self.latent_shape) if latents is None else latents
        pipe, settings = self._pipe, self._settings
        with self._fresh_scheduler(), listening(pipe.unet, self.guided, listeners):
            final = pipe(
                prompt=list(prompts),
                negative_prompt=negative_prompts(pipe, settings.negative_prompt, len(prompts)),
                height=self.height,
                width=self.width,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                generator=[_generator(seed) for seed in seeds],
                latents=noise.to(pipe.device, pipe.unet.dtype),
                output_type="latent",
                **self.size_ids,
            ).images
        return self.decode(final)

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

    @contextlib.contextmanager
    def _fresh_scheduler(self) -> Iterator[None]:
        """A scheduler keeps what it saw: each drawing gets a new one, the pipeline its own back."""
        own = self._pipe.scheduler
        self._pipe.scheduler = self._scheduler_class.from_config(own.config)
        try:
            yield
        finally:
            self._pipe.scheduler = own

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


def _unit_range(decoded: Float[Tensor, "B 3 H W"]) -> Float32[Tensor, "B H W 3"]:
    return (decoded.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def _count_broken(values: Float[Tensor, "B ..."]) -> Int64[Tensor, " B"]:
    return (~torch.isfinite(values)).flatten(1).sum(1)


def _error(what: str, count: int, values: Float[Tensor, "B ..."]) -> SampleError | None:
    if not count:
        return None
    return SampleError(
        f"finite {what} expected, got {count} of {values[0].numel()} NaN or infinite numbers "
        f"({values.dtype}): try another seed, or model.dtype float32 or bfloat16"
    )
