"""A head on one image, without moving what it was loaded with.

The published scripts never switch their networks to evaluation: batch norms use the statistics of
the image at hand, and the singular values of the convolutions go on from image to image (methods
5.4 and 6.4). The first belongs to the method; the second would make a mask depend on the images
before it, so here every image starts from the state that was loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ovamgen.attribution.heads.pyramid import Levels

HeadMode = Literal["official", "eval"]
"""``official``: as the released scripts run the networks; ``eval``: with the stored statistics."""


@contextlib.contextmanager
def as_loaded(network: nn.Module, mode: HeadMode) -> Iterator[None]:
    """A context in which the network runs in a mode; its buffers are put back when it is left.

    Args:
        network: a head.
        mode: see `HeadMode`.
    """
    training = network.training
    state = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train(mode == "official")
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(state[name])
        network.train(training)


@torch.no_grad()
def run_head(network: nn.Module, mode: HeadMode, levels: Levels, text: Tensor) -> Any:
    """What the network says of one image: a function of the image and the loaded weights alone.

    Args:
        network: a head; its buffers are the same afterwards.
        mode: see `HeadMode`.
        levels: features of the image, in any dtype: they are read in the network's.
        text: what the network asks for.

    Raises:
        MethodError: features of another model.
    """
    weight = next(network.parameters())
    given = [[item.to(weight) for item in items] for items in levels]
    network.train(mode == "official")
    state = {name: buffer.clone() for name, buffer in network.named_buffers()}
    return functional_call(network, state, (given, text.to(weight)))
