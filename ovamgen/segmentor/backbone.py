"""Weights of a ResNet from a local file into the backbone of a segmentor; nothing is downloaded."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ovamgen.errors import ConfigError

_RULES = (
    (r"^(?:resnet|backbone|model)\.", ""),
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (
        r"^layer(\d)\.(\d+)\.downsample\.0\.",
        lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.shortcut.convolution.",
    ),
    (
        r"^layer(\d)\.(\d+)\.downsample\.1\.",
        lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.shortcut.normalization.",
    ),
    (
        r"^layer(\d)\.(\d+)\.(conv|bn)(\d)\.",
        lambda m: (
            f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.layer.{int(m[4]) - 1}."
            f"{'convolution' if m[3] == 'conv' else 'normalization'}."
        ),
    ),
)
"""Names of torchvision and timm (``layer1.0.conv1``) to those of transformers."""

_CLASSIFIER = re.compile(r"^(fc|classifier|pooler)\.")


def load_backbone_weights(backbone: nn.Module, path: str | Path) -> None:
    """Gives the backbone the weights of a file in the naming of transformers, timm or torchvision.

    Args:
        backbone: transformers' ``ResNetBackbone``.
        path: a .safetensors file; the weights of its classifier are left out.

    Raises:
        ConfigError: the file cannot be read, or is of another network.
    """
    try:
        stored = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"the backbone {path} cannot be read as safetensors: {error}") from None
    weights = {_rename(name): value for name, value in stored.items()}
    weights = {name: value for name, value in weights.items() if not _CLASSIFIER.match(name)}
    wanted = backbone.state_dict()
    # counts of seen batches, which some files leave out and nothing here uses
    missing = [n for n in wanted if n not in weights and not n.endswith("num_batches_tracked")]
    unknown = [name for name in weights if name not in wanted]
    shapes = [n for n in weights if n in wanted and weights[n].shape != wanted[n].shape]
    if missing or unknown or shapes:
        told = [
            f"{len(names)} {what} ({names[0]})"
            for names, what in (
                (missing, "missing"),
                (unknown, "unknown"),
                (shapes, "of another shape"),
            )
            if names
        ]
        raise ConfigError(
            f"the backbone {path} must have the weights of this network's ResNet, got "
            f"{', '.join(told)}: check --size"
        )
    backbone.load_state_dict({**wanted, **{k: v.to(torch.float32) for k, v in weights.items()}})


def _rename(name: str) -> str:
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name, count=1)
    return name
