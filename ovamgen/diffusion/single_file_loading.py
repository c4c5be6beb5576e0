"""A pipeline out of one file in CompVis' layout, every weight of which came from it.

The names are converted by diffusers' own loader of single files. Unlike that, networks are checked
tensor by tensor, since what a file lacks would stay without values, and nothing but this package is
asked for configurations and tokenizers.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file

from ovamgen.diffusion.loading import vae_dtype
from ovamgen.diffusion.parts import complete, empty_networks
from ovamgen.diffusion.single_file import UNET, SingleFile
from ovamgen.errors import ConfigError

_NOT_TAKEN = ("position_ids", "logit_scale", "text_projection.weight")
"""Tensors of text encoders that files carry along and drawing does not need."""

_MOST_TIMES_ITS_TENSORS = 2

_Tensors = dict[str, torch.Tensor]


def load_single_file(found: SingleFile, *, dtype: torch.dtype) -> Any:
    """The pipeline of a file that was checked, on the CPU.

    Args:
        found: the file.
        dtype: of all weights, but float32 for a VAE that cannot be had in float16.

    Raises:
        ConfigError: a tensor is missing, of another shape, or of no network of that model.
    """
    networks = empty_networks(found.architecture)
    # mapped into memory: of tensors that are not used, such as averaged weights, none is read
    tensors = load_file(found.weights.path)
    for name, network in networks.items():
        try:
            weights = _converted(found, name, network, tensors)
        except (LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            # what the converters raise where names are missing that they go by
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"{found.weights.place}: its {name} cannot be converted: {reason}"
            ) from None
        _check_fits(f"{found.weights.place}: its {name}", network, weights)
        own = vae_dtype(found.architecture.family, network, dtype) if name == "vae" else dtype
        # copies, so that nobody who writes to the file later changes the model
        copies = {key: tensor.to(own, copy=True) for key, tensor in weights.items()}
        network.load_state_dict(copies, assign=True)
    return complete(found.architecture, networks)


def _converted(found: SingleFile, name: str, network: Any, tensors: _Tensors) -> _Tensors:
    """The network's weights under the names that it has in diffusers and transformers."""
    if name == "unet":
        own = {key: tensor for key, tensor in tensors.items() if key.startswith(UNET)}
        expected = len(network.state_dict())
        if len(own) > _MOST_TIMES_ITS_TENSORS * expected:
            # the converter compares every name with every block
            raise ValueError(f"it has {len(own)} tensors, {expected} expected")
        return convert_ldm_unet_checkpoint(own, network.config)
    if name == "vae":
        return convert_ldm_vae_checkpoint(tensors, network.config)
    architecture = found.architecture
    prefixes = dict(zip(architecture.text_encoders, architecture.text_prefixes, strict=True))
    prefix = prefixes[name]
    own = {key: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    if prefix.endswith(".transformer."):
        converted = convert_ldm_clip_checkpoint(own)
    else:
        converted = convert_open_clip_checkpoint(network, own, prefix=prefix)
    wanted = network.state_dict().keys()
    # whether transformers puts "text_model." before the names depends on its version and class
    inner = "text_model." if any(key.startswith("text_model.") for key in wanted) else ""
    plain = {key.removeprefix("text_model."): tensor for key, tensor in converted.items()}
    named = {
        key if key.startswith("text_projection") else inner + key: tensor
        for key, tensor in plain.items()
    }
    return {
        key: tensor
        for key, tensor in named.items()
        if key in wanted or not key.endswith(_NOT_TAKEN)
    }


def _check_fits(place: str, network: Any, weights: _Tensors) -> None:
    """Checks names and shapes of all weights against those of the network."""
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    advice = "the file is damaged, cut down, or of another architecture"
    if missing := sorted(wanted.keys() - weights.keys()):
        raise ConfigError(f"{place} lacks {len(missing)} tensors, first {missing[0]}: {advice}")
    if unknown := sorted(weights.keys() - wanted.keys()):
        raise ConfigError(
            f"{place} has {len(unknown)} tensors too many, first {unknown[0]:.200}: {advice}"
        )
    for key, shape in wanted.items():
        if tuple(weights[key].shape) != shape:
            raise ConfigError(
                f"{place} must have {key} of {list(shape)}, got {list(weights[key].shape)}: "
                f"{advice}"
            )
