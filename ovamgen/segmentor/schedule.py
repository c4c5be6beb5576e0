"""The optimizer of a training and the rate of each of its steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ovamgen.segmentor.settings import TrainSettings


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The rate of a step, 0 the first: a linear rise, then (1 - step / steps) ** power.

    The poly rule is that of Chen et al., DeepLab, 2017.
    """
    assert settings.learning_rate is not None, "resolved by the settings"
    warmup = round(settings.warmup_share * settings.steps)
    rise = min(1.0, (step + 1) / (warmup + 1))
    return settings.learning_rate * rise * (1 - step / settings.steps) ** settings.poly_power


def build_optimizer(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, 2019) or SGD with momentum, as the settings ask."""
    # biases and the scales of normalisations are vectors; they are not pulled to zero
    parameters = list(network.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    assert settings.learning_rate is not None, "resolved by the settings"
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)
