"""A decoder that begins with what another model's decoder has learnt, be its latents other ones.

Both latents are linear functions of the same patches, so the old ones follow from the new ones but
for what a patch keeps only in the old: a 1 x 1 convolution, which the autoencoder has in front of
its decoder. Channels that the old latents lack pass beside them, at first unheard.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float

from ovamgen.errors import ConfigError
from recipes.mini.autoencoder import decoder_parameters
from recipes.mini.averages import start_averages
from recipes.mini.checkpoints import has_checkpoint
from recipes.mini.composites import SIDE
from recipes.mini.decoder import open_decoder
from recipes.mini.latents import CELLS, PATCH, LatentSpace


def start_decoder_from(model: Path, folder: Path, space: LatentSpace) -> None:
    """Starts a training in ``folder`` with the decoder of an exported model, all else as new.

    Layers of another shape (the width of the last ones follows from the latents' channels) begin
    untrained.

    Raises:
        ConfigError: the folder already has a checkpoint, or the model is not this recipe's, or its
            latents have more channels than the space.
    """
    if has_checkpoint(folder):
        raise ConfigError(
            f"{folder} must be a new folder to start in, it has a checkpoint: resume it without "
            "--start-from"
        )
    try:
        old = AutoencoderKL.from_pretrained(model, subfolder="vae", torch_dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{model} must hold this recipe's autoencoder: {reason}") from None
    if old.config.latent_channels > space.channels:
        raise ConfigError(
            f"{model} must have latents of at most {space.channels} channels, as those of "
            f"the work folder, got {old.config.latent_channels}: fit wider ones with "
            "'data --refit-channels'"
        )
    state = open_decoder(folder, space, torch.device("cpu"))
    with torch.no_grad():
        _take_over(old, state.autoencoder, space)
    state.ema = start_averages(decoder_parameters(state.autoencoder))
    state.save(folder)


def _take_over(old: Any, new: Any, space: LatentSpace) -> None:
    """Gives the new autoencoder what fits of the decoder of the old one."""
    weights = old.decoder.state_dict()
    for name, value in new.decoder.state_dict().items():
        if weights[name].shape == value.shape:
            value.copy_(weights[name])
    channels = old.config.latent_channels
    entrance = new.decoder.conv_in.weight
    entrance[:, :channels] = old.decoder.conv_in.weight
    entrance[:, channels:] = 0.0
    matrix, offset = _old_latents(old, space)
    before, shift = old.post_quant_conv.weight[:, :, 0, 0], old.post_quant_conv.bias
    both = new.post_quant_conv
    both.weight.copy_(torch.eye(space.channels)[:, :, None, None])
    both.bias.zero_()
    both.weight[:channels, :, 0, 0] = before @ matrix
    both.bias[:channels] = before @ offset + shift


def _old_latents(
    old: Any, space: LatentSpace
) -> tuple[Float[torch.Tensor, "old new"], Float[torch.Tensor, " old"]]:
    """Matrix and offset that make old latents of new ones, read off the old encoder."""
    patches = torch.from_numpy(space.mean).repeat(CELLS * CELLS, 1)
    patches[1 : space.channels + 1] += torch.from_numpy((space.basis * space.scale).T)
    cells = patches.view(CELLS, CELLS, PATCH, PATCH, 3).permute(4, 0, 2, 1, 3)
    picture = cells.reshape(1, 3, SIDE, SIDE)
    latents = old.encode(picture).latent_dist.mean[0].flatten(1)
    offset = latents[:, 0]
    return latents[:, 1 : space.channels + 1] - offset[:, None], offset
