"""Exponential moving averages of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ovamgen.segmentor.training import rising_decay


def start_averages(parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    """The averages before the first step: copies of the parameters."""
    return [parameter.detach().clone() for parameter in parameters]


def update_averages(
    averages: list[torch.Tensor], parameters: list[torch.nn.Parameter], decay: float, step: int
) -> None:
    """Moves the averages towards the parameters after a step; faster while there are few steps.

    Args:
        averages: changed in place.
        parameters: in the same order.
        decay: what is kept of an average at a step, at most.
        step: steps taken.
    """
    kept = rising_decay(decay, step)
    torch._foreach_lerp_(averages, [parameter.detach() for parameter in parameters], 1 - kept)


@contextmanager
def averaged(averages: list[torch.Tensor], parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    """Has the parameters hold their averages for the time of the block."""
    _swap(averages, parameters)
    try:
        yield
    finally:
        _swap(averages, parameters)


def _swap(averages: list[torch.Tensor], parameters: list[torch.nn.Parameter]) -> None:
    with torch.no_grad():
        for average, parameter in zip(averages, parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)
