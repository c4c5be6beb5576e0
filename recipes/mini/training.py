"""One training step of the text encoder and the UNet.

Prediction type v (Salimans and Ho 2022, arXiv 2202.00512, appendix D): with signal a and noise b,
a^2 + b^2 = 1, the network sees a z + b n and predicts a n - b z.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from jaxtyping import Float, Int, Int64

from recipes.mini.averages import update_averages
from recipes.mini.dataset import TrainingData
from recipes.mini.loop import step_generator
from recipes.mini.model import TRAIN_TIMESTEPS, alphas_cumprod, autocast, image_order
from recipes.mini.state import TrainState
from recipes.mini.tokenizer import tokenize

LatentsBatch = Float[torch.Tensor, "B channels 16 16"]
TokensBatch = Int[torch.Tensor, "B length"]


class Trainer:
    """Takes training steps on a state."""

    def __init__(
        self,
        state: TrainState,
        data: TrainingData,
        tokenizer: Any,
        device: torch.device,
        *,
        compiled: bool = False,
    ) -> None:
        """Readies the networks on the device.

        Args:
            state: changed by every step.
            data: the pictures; copied to the device where that is no CPU.
            tokenizer: of the captions, for the empty one.
            device: where the arithmetic is done, in bfloat16 where autocast allows.
            compiled: pass the UNet through ``torch.compile``; worth it on GPUs only.
        """
        self.state = state
        self._device = device
        self._data = data
        self._latents: Any = data.latents
        if device.type == "cpu":
            # Explicit attention is faster than the fused kernel for 256 positions on a CPU.
            state.networks.unet.set_attn_processor(AttnProcessor())
        else:
            self._latents = torch.from_numpy(np.array(data.latents)).to(device)
        self._tokens = torch.from_numpy(data.tokens.astype(np.int64)).to(device)
        self._empty = torch.from_numpy(tokenize(tokenizer, [""])).to(device)
        self._alphas = alphas_cumprod(device)
        self._unet = torch.compile(state.networks.unet) if compiled else state.networks.unet
        state.networks.train()

    def take_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradient norm (scalars on the device) of one step, which it takes."""
        state, settings = self.state, self.state.settings
        state.optimizer.set_rate(settings.rate(state.step))
        chosen = positions(len(self._data), state.samples, settings.batch_size, settings.seed)
        generator = step_generator(settings.seed, state.step, self._device)
        loss = self._errors(chosen, generator).mean()
        torch.autograd.backward(loss)
        parameters = state.networks.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_norm)
        state.optimizer.step()
        state.step += 1
        state.samples += settings.batch_size
        update_averages(state.ema, parameters, settings.ema_decay, state.step)
        return loss.detach(), norm

    def _errors(
        self, chosen: Int64[np.ndarray, " B"], generator: torch.Generator
    ) -> Float[torch.Tensor, " B"]:
        count, device = len(chosen), self._device
        latents = self._gather(chosen)
        draws = torch.rand(count, generator=generator, device=device)
        keep = draws >= self.state.settings.caption_drop_share
        tokens = self._tokens[torch.from_numpy(chosen).to(device)]
        tokens = torch.where(keep[:, None], tokens, self._empty)
        # One draw from each of B equal strata: each batch covers the timesteps.
        jitter = torch.rand(count, generator=generator, device=device)
        shares = (torch.arange(count, device=device) + jitter) / count
        timesteps = timesteps_at(shares, self.state.settings.timestep_slope)
        noise = torch.randn(latents.shape, generator=generator, device=device)
        return prediction_errors(
            self._unet,
            self.state.networks.text_encoder,
            latents,
            tokens,
            timesteps,
            noise,
            self._alphas,
        )

    def _gather(self, chosen: Int64[np.ndarray, " B"]) -> LatentsBatch:
        if self._device.type == "cpu":
            return torch.from_numpy(self._latents[chosen].astype(np.float32))
        return self._latents[torch.from_numpy(chosen).to(self._device)].float()


def timesteps_at(shares: Float[torch.Tensor, " B"], slope: float) -> Int64[torch.Tensor, " B"]:
    """Timesteps at the given shares, in [0, 1), of a distribution that slopes linearly.

    Its density over t / T is 1 + slope (2 t / T - 1): even without a slope, in [0, 1), else with
    more of the noisy timesteps, where it is decided what a picture shows.
    """
    # solves share = (1 - slope) x + slope x^2 for x, in the form that needs no slope
    even = 1 - slope
    shares = 2 * shares / (even + (even**2 + 4 * slope * shares).sqrt())
    return (shares * TRAIN_TIMESTEPS).long().clamp_(max=TRAIN_TIMESTEPS - 1)


def prediction_errors(
    unet: Any,
    text_encoder: Any,
    latents: LatentsBatch,
    tokens: TokensBatch,
    timesteps: Int[torch.Tensor, " B"],
    noise: LatentsBatch,
    alphas: Float[torch.Tensor, " timesteps"],
) -> Float[torch.Tensor, " B"]:
    """Mean squared errors of the v predictions.

    The error of the noise prediction is this times a^2, the same factor for all samples of a
    timestep, so ratios at one timestep are the same for both.
    """
    share = alphas[timesteps][:, None, None, None]
    signal, spread = share.sqrt(), (1 - share).sqrt()
    noisy = (signal * latents + spread * noise).contiguous(
        memory_format=image_order(latents.device)
    )
    with autocast(latents.device):
        context = text_encoder(tokens).last_hidden_state
        predicted = unet(noisy, timesteps, context).sample
    target = signal * noise - spread * latents
    return (predicted.float() - target).square().mean((1, 2, 3))


def positions(length: int, start: int, count: int, seed: int) -> Int64[np.ndarray, " count"]:
    """Indices of the samples number ``start`` to ``start + count`` of an endless, shuffled stream.

    Every epoch of ``length`` samples has its own order, a function of the seed and its number.
    """
    parts = []
    while count:
        epoch, offset = divmod(start, length)
        part = _epoch_order(length, epoch, seed)[offset : offset + count]
        parts.append(part)
        start, count = start + len(part), count - len(part)
    return np.concatenate(parts)


@lru_cache(maxsize=2)
def _epoch_order(length: int, epoch: int, seed: int) -> Int64[np.ndarray, " length"]:
    """Kept, since a GPU takes a step in less time than a shuffle of all pictures."""
    return np.random.default_rng([seed, epoch]).permutation(length)
