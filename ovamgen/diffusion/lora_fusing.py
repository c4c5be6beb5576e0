"""LoRAs fused into the weights of a pipeline: W + weight · alpha / rank · B A (arXiv 2106.09685).

diffusers reads the names that trainers use. The sum is our own, and not PEFT's: every layer of the
file must be found in the model, and numbers are multiplied in float64 and rounded once, so that
other processors and other numbers of threads give the same weights, and so the same digest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.utils.state_dict_utils import (
    DIFFUSERS_OLD_TO_PEFT,
    DIFFUSERS_TO_PEFT,
    UNET_TO_DIFFUSERS,
    convert_state_dict,
)
from safetensors.torch import load_file

from ovamgen.config import Lora
from ovamgen.diffusion.families import FAMILIES
from ovamgen.diffusion.lora import lora_file
from ovamgen.diffusion.weight_file import read_header
from ovamgen.errors import ConfigError
from ovamgen.storage.plain_json import load_plain_json

_DOWN, _UP, _ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
_TEXT_NAMES = {**DIFFUSERS_OLD_TO_PEFT, **DIFFUSERS_TO_PEFT}
_PEFT_SETTINGS = "lora_adapter_metadata"
"""Key of a file's metadata under which diffusers keeps the settings of PEFT, as JSON."""

_Layers = dict[tuple[str, str], dict[str, torch.Tensor]]
"""``A``, ``B`` and maybe alpha, by component and name of the layer."""


def fuse_loras(pipe: Any, loras: Sequence[Lora]) -> None:
    """Adds LoRAs to the weights of a pipeline on the CPU, one after the other.

    Args:
        pipe: whose UNet and text encoders are changed.
        loras: files that `check_loras` found to be LoRAs.

    Raises:
        ConfigError: names the file, and the first of its layers that the model has not, or has of
            another shape; or a number in it is infinite or none.
    """
    for lora in loras:
        _fuse(pipe, lora)


def _fuse(pipe: Any, lora: Lora) -> None:
    path = lora_file(lora)
    place, tensors = f"LoRA {path}", load_file(path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{place}: {name:.200} holds numbers that are infinite or none (NaN)")
    try:
        layers = layers_of(pipe, tensors)
        settings = _peft_settings(read_header(path, "LoRA").metadata)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        # what the converters raise on names that no trainer writes
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{place}: its layers or settings cannot be read: {reason}") from None
    found = {key: module_of(pipe, *key) for key in layers}
    if absent := [".".join(key) for key, module in found.items() if module is None]:
        raise ConfigError(
            f"{place}: {len(absent)} of its {len(layers)} layers are none of the model's, first "
            f"{absent[0]:.200}: it was made for another model"
        )
    for key, parts in layers.items():
        name = f"{place}: {'.'.join(key):.200}"
        down, up = _matrices(name, found[key], parts)
        scale = lora.weight * _scale(*key, len(down), parts.get(_ALPHA), settings)
        _add(name, found[key], down, up, scale)


def layers_of(pipe: Any, tensors: Mapping[str, torch.Tensor]) -> _Layers:
    """The tensors of a file by component and layer, whichever trainer's names it has.

    Args:
        pipe: whose UNet's blocks are counted, for names that count otherwise.
        tensors: of the file, by name.

    Raises:
        ValueError: a tensor is of no layer.
    """
    state, alphas = type(pipe).lora_state_dict(dict(tensors), unet_config=pipe.unet.config)
    # the alphas of kohya-ss come as numbers beside the tensors
    state |= {name: torch.tensor(float(alpha)) for name, alpha in (alphas or {}).items()}
    layers: _Layers = {}
    for full_name, tensor in state.items():
        component, _, own_name = full_name.partition(".")
        names = UNET_TO_DIFFUSERS if component == "unet" else _TEXT_NAMES
        (name,) = convert_state_dict({own_name: tensor}, names)
        for end in (_ALPHA, _DOWN, _UP):
            if name.endswith(end):
                if end == _ALPHA and tensor.numel() != 1:
                    raise ValueError(f"{full_name} must be one number, got {list(tensor.shape)}")
                # of the alpha of a layer, diffusers keeps the name of its first matrix
                layer = name.removesuffix(end).removesuffix(_DOWN)
                layers.setdefault((component, layer), {})[end] = tensor
                break
        else:
            raise ValueError(f"{full_name} is of no layer of a LoRA")
    return layers


def module_of(pipe: Any, component: str, layer: str) -> Any:
    """The linear layer or convolution of that name; None where the model has none.

    Args:
        pipe: the model.
        component: ``unet``, or a text encoder.
        layer: its name in the component, with or without ``text_model.`` before it.
    """
    if component not in ("unet", *FAMILIES[type(pipe).__name__].text_encoders):
        return None
    # whether transformers puts "text_model." before the names depends on its version and class
    for name in (layer, layer.removeprefix("text_model.")):
        try:
            module = getattr(pipe, component).get_submodule(name)
        except AttributeError:
            continue
        return module if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) else None
    return None


def _matrices(
    place: str, module: Any, parts: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A as (rank, columns) and B as (rows, rank), which fit the weights of a layer.

    Args:
        place: file and layer, for messages.
        module: linear, or a convolution; then B is one with a kernel of 1 x 1.
        parts: what the file says of the layer.

    Raises:
        ConfigError: one is missing, or they do not fit.
    """
    if not {_DOWN, _UP} <= parts.keys():
        raise ConfigError(f"{place} has one matrix of two: the file is damaged")
    given, own = (parts[_DOWN], parts[_UP]), module.weight
    if all(one.ndim > 1 and one.numel() for one in given):
        down, up = (one.flatten(1) for one in given)
        if up.shape[1] == down.shape[0] and (len(up), down.shape[1]) == own.flatten(1).shape:
            return down, up
    raise ConfigError(
        f"{place} has matrices of {list(given[0].shape)} and {list(given[1].shape)}, which do not "
        f"fit weights of {list(own.shape)}: it was made for another model"
    )


def _scale(
    component: str,
    layer: str,
    rank: int,
    alpha: torch.Tensor | None,
    settings: Mapping[str, Any],
) -> float:
    """Alpha / rank of a layer; 1 where the file says nothing of alpha.

    Args:
        component: ``unet``, or a text encoder.
        layer: its name in the component.
        rank: of its matrices.
        alpha: a tensor of the file.
        settings: PEFT's: alpha of a component, or of layers by the end of their name.
    """
    if alpha is not None:
        value: Any = alpha.item()
    else:
        value = settings.get(f"{component}.lora_alpha", rank)
        for pattern, own in settings.get(f"{component}.alpha_pattern", {}).items():
            # patterns are regular expressions of PEFT; trainers write names
            name = pattern.removeprefix("^")
            value = own if layer == name or layer.endswith(f".{name}") else value
    # rank-stabilised LoRA, arXiv 2312.03732
    is_stabilised = settings.get(f"{component}.use_rslora", False)
    return float(value) / (math.sqrt(rank) if is_stabilised else rank)


def _peft_settings(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The settings that diffusers keeps beside the tensors, by component and PEFT's name.

    Raises:
        ValueError: they are none, or ask for what is not LoRA alone.
        AttributeError: the alphas of layers are no object.
    """
    found = load_plain_json(metadata.get(_PEFT_SETTINGS, "{}"))
    if not isinstance(found, dict):
        raise ValueError(f"{_PEFT_SETTINGS} must be an object, got {found!r:.80}")
    for name, value in found.items():
        if name.endswith((".use_dora", ".lora_bias")) and value:
            raise ValueError(f"{_PEFT_SETTINGS} has {name:.80}, which cannot be fused")
        if name.endswith(".alpha_pattern"):
            alphas = list(value.values())
        else:
            alphas = [value] if name.endswith(".lora_alpha") else []
        if not all(isinstance(alpha, int | float) and math.isfinite(alpha) for alpha in alphas):
            raise ValueError(f"{name:.80} in {_PEFT_SETTINGS} must be a number, got {value!r:.80}")
    return found


def _add(place: str, module: Any, down: torch.Tensor, up: torch.Tensor, scale: float) -> None:
    """Adds ``scale`` times the product of a layer's two matrices to its weights."""
    own = module.weight
    product = up.double() @ down.double()
    fused = (own.double() + scale * product.view_as(own)).to(own.dtype)
    if not torch.isfinite(fused).all():
        raise ConfigError(
            f"{place} gives weights beyond what {own.dtype} holds: give it a smaller weight in "
            "model.loras, or model.dtype bfloat16 or float32"
        )
    module.weight = torch.nn.Parameter(fused, requires_grad=False)
