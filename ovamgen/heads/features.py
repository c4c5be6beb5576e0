"""Features of pictures to learn from: of one UNet call at the last timestep.

A generated picture is drawn again and its last call repeated; a real one is encoded, noised to that
timestep by a seed of its own and called once, as DatasetDM does it (methods 6.5). The features are
those that a head sees where pictures are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ovamgen.attribution.heads.head_file import HeadKind
from ovamgen.config import build_config
from ovamgen.diffusion.features import (
    FeatureRecorder,
    feature_bytes,
    feature_levels,
)
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.probe import encode
from ovamgen.diffusion.recorder import timestep_of
from ovamgen.diffusion.recreate import fit, fitted_size
from ovamgen.diffusion.schedulers import scheduler_class
from ovamgen.diffusion.synthesis import Synthesiser, initial_noise
from ovamgen.heads.examples import HeadExample
from ovamgen.pictures.picture_set import PictureSet

Levels = list[list[Tensor]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LastCall:
    """What the UNet saw in its last call."""

    latents: Float[Tensor, "1 C h w"]
    timestep: float


class FeatureReader:
    """Makes what a head is given of a picture.

    Args:
        loaded: the model.
        kind: of the head.
        pictures: whose features are asked for.
        draw: generated pictures are drawn again; they are encoded otherwise, as real ones are.
    """

    def __init__(
        self, loaded: LoadedPipeline, kind: HeadKind, pictures: PictureSet, *, draw: bool
    ) -> None:
        self._pipe = loaded.pipe
        self._info = loaded.info
        self._pictures = pictures
        self._sink = _Sink(kind)
        self._calls: dict[str, LastCall] = {}
        self._synthesiser: Synthesiser | None = None
        config = build_config(dict(pictures.settings)) if pictures.settings else build_config({})
        settings = config.synthesis.model_copy(update={"safety": "off"})
        if draw and pictures.kind == "samples":
            self._synthesiser = Synthesiser(loaded, settings)
        scheduler = scheduler_class(settings.scheduler).from_config(loaded.pipe.scheduler.config)
        scheduler.set_timesteps(settings.steps)
        self._scheduler = scheduler
        self._levels = feature_levels(
            loaded.pipe.unet,
            before_upsampling=self._sink.before_upsampling,
            with_attention=self._sink.with_attention,
        )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, coarsest first."""
        tokens = self._pipe.tokenizer.model_max_length
        return tuple(level.channels(tokens) for level in self._levels)

    def nbytes(self, size: tuple[int, int]) -> int:
        """Bytes of the features of one picture of (height, width) pixels."""
        height, width = (side // self._info.vae_scale_factor for side in self.fitted(size))
        return feature_bytes(
            self.channels, (height, width), itemsize=self._pipe.unet.dtype.itemsize
        )

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which a picture is encoded: its shorter side the model's own."""
        # whole cells at every level of the UNet
        step = self._info.vae_scale_factor * 2 ** (len(self._levels) - 1)
        return fitted_size(self._info, size, step)

    def levels(
        self, example: HeadExample, image: UInt8[np.ndarray, "H W 3"] | None = None
    ) -> Levels:
        """What a head is given of one picture.

        Args:
            example: which one.
            image: a part of it to encode; the picture itself where not given.

        Raises:
            SampleError: the picture came out broken when it was drawn again.
        """
        if image is not None:
            return self._call(self._encoded(image, example.picture.seed), example.prompt)
        key = example.picture.key
        if key not in self._calls:
            self._calls[key] = (
                self._encoded(self._pictures.image(example.picture), example.picture.seed)
                if self._synthesiser is None
                else self._drawn(self._synthesiser, example)
            )
        return self._call(self._calls[key], example.prompt)

    def _drawn(self, synthesiser: Synthesiser, example: HeadExample) -> LastCall:
        """The last call of the picture's own drawing."""
        seen: list[LastCall] = []

        def keep(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            latents = args[0][:1].detach().clone()
            seen[:] = [LastCall(latents=latents, timestep=timestep_of(args, kwargs))]

        handle = self._pipe.unet.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            drawn = synthesiser.draw([example.picture.prompt], [example.picture.seed])
        finally:
            handle.remove()
        if drawn.errors[0] is not None:
            raise drawn.errors[0]
        return seen[0]

    @torch.no_grad()
    def _encoded(self, image: UInt8[np.ndarray, "H W 3"], seed: int) -> LastCall:
        pipe = self._pipe
        image = fit(image, self.fitted((image.shape[0], image.shape[1])))
        pixels = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        latents = encode(pipe.vae, pixels.to(pipe.device, pipe.vae.dtype))
        _, channels, rows, columns = latents.shape
        noise = initial_noise([seed], (channels, rows, columns)).to(latents)
        last = self._scheduler.timesteps[-1:].to(latents.device, torch.int64)
        noised = self._scheduler.add_noise(latents, noise, last)
        return LastCall(latents=noised, timestep=float(last))

    @torch.no_grad()
    def _call(self, last: LastCall, prompt: str) -> Levels:
        pipe = self._pipe
        positive, negative = pipe.encode_prompt(prompt, pipe.device, 1, True, negative_prompt="")
        with FeatureRecorder(pipe.unet, True, self._sink):
            pipe.unet(
                last.latents.to(pipe.unet.dtype).repeat(2, 1, 1, 1),
                last.timestep,
                encoder_hidden_states=torch.cat([negative, positive]),
            )
        return self._sink.levels


class _Sink:
    """Keeps the features of the one call that is made."""

    def __init__(self, kind: HeadKind) -> None:
        self.before_upsampling = self.with_attention = kind == "datasetdm"
        self.levels: Levels = []

    def wants_features(self, timestep: float) -> bool:
        """Every call is the last one here."""
        return True

    def take_features(
        self, features: Sequence[Sequence[Tensor]], attention: Sequence[Sequence[Tensor]]
    ) -> None:
        """Keeps them as a head takes them."""
        self.levels = [[*f, *a] for f, a in zip(features, attention, strict=True)]
