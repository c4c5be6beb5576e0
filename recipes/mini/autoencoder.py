"""An ``AutoencoderKL`` whose encoder computes the linear latents by construction.

The encoder's weights are written down, not trained. Residual branches are closed (zero weights),
so what is left are convolutions; three of stride 2, of which only the 2 x 2 taps on a cell are
used, compute any linear map of 8 x 8 patches. Two parts of the architecture are not linear and
stand after them: a group normalisation and a SiLU. Each latent x enters its group as x and -x
among constants C and -C that outweigh it, so mean and variance of the group hardly depend on x;
and silu(x) - silu(-x) = x exactly. What remains is a relative error of about x^2 / (14 C^2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float

from ovamgen.errors import ConfigError
from recipes.mini.composites import SIDE
from recipes.mini.latents import PATCH, LatentSpace

_LAST_WIDTH = 128
_GROUPS = 8
_GROUP = _LAST_WIDTH // _GROUPS
"""Channels in a normalisation group of the encoder's end; latent channels share the groups out."""
_QUARTER = 48
"""Values of a 4 x 4 quarter of a patch, and so the most features that the middle stage can need."""
MOST_CHANNELS = 32
_CONSTANT = 16.0
_LOG_VARIANCE = -30.0
"""diffusers' lower bound: samples of the posterior are its mean."""


def build_autoencoder(space: LatentSpace, seed: int) -> Any:
    """An ``AutoencoderKL`` in float32: the encoder complete, the decoder untrained.

    ``encode(x).latent_dist.mean`` of images in [-1, 1] equals ``space.encode`` within about 1 %.

    Raises:
        ConfigError: the latents have too many channels, or no multiple of eight.
    """
    channels = space.channels
    if channels % _GROUPS or channels > MOST_CHANNELS:
        raise ConfigError(
            f"latents must have 8, 16, 24 or {MOST_CHANNELS} channels, got {channels}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(16, max(32, _features(channels)), 64, _LAST_WIDTH),
            layers_per_block=1,
            latent_channels=channels,
            norm_num_groups=_GROUPS,
            sample_size=SIDE,
            scaling_factor=1.0,
            force_upcast=False,
            mid_block_add_attention=False,
        )
        with torch.no_grad():
            _write_encoder(autoencoder, space)
            for name, module in autoencoder.decoder.named_modules():
                # Nearly closed residual branches train faster from the first step.
                if name.endswith("conv2"):
                    module.weight.mul_(0.1)
    return autoencoder


def decoder_parameters(autoencoder: Any) -> list[torch.nn.Parameter]:
    """The parameters to be trained, in a fixed order."""
    return [*autoencoder.decoder.parameters(), *autoencoder.post_quant_conv.parameters()]


def _write_encoder(autoencoder: Any, space: LatentSpace) -> None:
    encoder = autoencoder.encoder
    for module in (*encoder.modules(), autoencoder.quant_conv):
        if isinstance(module, torch.nn.Conv2d):
            module.weight.zero_()
            if module.bias is not None:
                module.bias.zero_()
    channels = space.channels
    coarse, fine, offset = factorise(space)
    first, second, third, last = encoder.down_blocks
    encoder.conv_in.weight[:3, :, 1, 1] = torch.eye(3)
    _set_taps(first.downsamplers[0].conv, torch.eye(12).view(12, 2, 2, 3))
    _pass_through(second.resnets[0].conv_shortcut, 12)
    _set_taps(second.downsamplers[0].conv, fine)
    _pass_through(third.resnets[0].conv_shortcut, len(fine))
    _set_taps(third.downsamplers[0].conv, coarse)
    third.downsamplers[0].conv.bias[:channels] = offset
    shortcut = last.resnets[0].conv_shortcut
    each = channels // _GROUPS
    constants = _GROUP - 2 * each
    signs = torch.tensor([1.0, -1.0]).repeat(constants // 2)
    variances = _variances(space)
    for group in range(_GROUPS):
        start, members = group * _GROUP, range(group * each, (group + 1) * each)
        for plus, channel in zip(range(start, start + 2 * each, 2), members, strict=True):
            shortcut.weight[plus, channel] = 1.0
            shortcut.weight[plus + 1, channel] = -1.0
            encoder.conv_out.weight[channel, plus, 1, 1] = 1.0
            encoder.conv_out.weight[channel, plus + 1, 1, 1] = -1.0
        shortcut.bias[start + 2 * each : start + _GROUP] = _CONSTANT * signs
        of_latents = 2 * sum(float(variances[channel]) for channel in members)
        spread = math.sqrt((of_latents + constants * _CONSTANT**2) / _GROUP)
        encoder.conv_norm_out.weight[start : start + _GROUP] = spread
    encoder.conv_norm_out.bias.zero_()
    encoder.conv_out.bias[channels:] = _LOG_VARIANCE
    autoencoder.quant_conv.weight[:, :, 0, 0] = torch.eye(2 * channels)


def factorise(
    space: LatentSpace,
) -> tuple[
    Float[torch.Tensor, "channels 2 2 features"],
    Float[torch.Tensor, "features 2 2 12"],
    Float[torch.Tensor, " channels"],
]:
    """The linear map of patches as two stages after a 2 x 2 unfolding, exact.

    Each latent sees each of the four 4 x 4 quarters of a patch through a direction of its own: 32
    in all for 8 latents, which is what the middle stage keeps of a quarter's 48 values.

    Returns:
        coarse: latents from the features of the quarters (row, column).
        fine: features of a quarter from its four 2 x 2 cells (row, column), 12 values each.
        offset: added to the latents; the mean patch.
    """
    weights = (space.basis / space.scale).astype(np.float64).T
    half = PATCH // 2
    # latent, quarter row, row, quarter column, column, colour -> latent, quarters, 48 values
    quarters = weights.reshape(space.channels, 2, half, 2, half, 3).transpose(0, 1, 3, 2, 4, 5)
    stacked = quarters.reshape(space.channels * 4, half * half * 3)
    directions = np.linalg.svd(stacked, full_matrices=False)[2]
    coarse = (stacked @ directions.T).reshape(space.channels, 2, 2, len(directions))
    # feature, cell row, row, cell column, column, colour -> feature, cells, 12 values
    cells = directions.reshape(-1, 2, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    fine = cells.reshape(-1, 2, 2, 12)
    offset = -space.mean.astype(np.float64) @ weights.T
    return (
        torch.from_numpy(coarse).float(),
        torch.from_numpy(np.ascontiguousarray(fine)).float(),
        torch.from_numpy(offset).float(),
    )


def _features(channels: int) -> int:
    """How many features of a quarter the middle stage keeps, see `factorise`."""
    return min(4 * channels, _QUARTER)


def _set_taps(convolution: torch.nn.Conv2d, taps: Float[torch.Tensor, "out 2 2 in"]) -> None:
    """Writes a 2 x 2 kernel into the upper left of a 3 x 3 one (diffusers pads right and below)."""
    outputs, _, _, inputs = taps.shape
    convolution.weight[:outputs, :inputs, :2, :2] = taps.permute(0, 3, 1, 2)


def _pass_through(convolution: torch.nn.Conv2d, channels: int) -> None:
    convolution.weight[:channels, :channels, 0, 0] = torch.eye(channels)


def _variances(space: LatentSpace) -> Float[torch.Tensor, " channels"]:
    """Variance of each latent channel: scale^2 = deviation * mean deviation, by construction."""
    mean_deviation = float(np.sqrt(np.square(space.scale).mean()))
    return torch.from_numpy(np.square(space.scale) / mean_deviation**2)
