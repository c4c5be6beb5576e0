"""Networks without weights, on the meta device: for counting what a call of them costs."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel

from ovamgen.diffusion.architectures import Architecture


def unet_skeleton(architecture: Architecture) -> Any:
    """The architecture's UNet; nothing is allocated."""
    with torch.device("meta"):
        return UNet2DConditionModel(**architecture.unet)


def skeleton_of(part: Any) -> Any:
    """A network like this one.

    Args:
        part: a diffusers model, such as a pipeline's ``unet`` or ``vae``.
    """
    with torch.device("meta"):
        return type(part).from_config(part.config)
