"""Everything that a training run carries from one step to the next, and its file.

Random numbers are not among it: each step derives its own from the run's seed and the step's
number, so a run that was stopped and resumed is, step for step, the run that never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from recipes.mini.averages import averaged, start_averages
from recipes.mini.checkpoints import read_checkpoint, write_checkpoint
from recipes.mini.model import ModelShape, Networks, build_networks
from recipes.mini.optimizers import NetworkOptimizer
from recipes.mini.settings import TrainSettings


@dataclass(slots=True)
class TrainState:
    """A run between two steps."""

    settings: TrainSettings
    shape: ModelShape
    networks: Networks
    optimizer: NetworkOptimizer
    ema: list[torch.Tensor]
    """Running mean of each parameter, in the order of ``networks.parameters()``."""
    data_digest: str
    step: int = 0
    """Steps taken."""
    samples: int = 0
    """Samples seen: the position in the data."""

    @contextmanager
    def averaged(self) -> Iterator[Networks]:
        """The networks with their means as weights, in evaluation mode, for the time of a block."""
        with averaged(self.ema, self.networks.parameters()):
            self.networks.train(False)
            try:
                yield self.networks
            finally:
                self.networks.train()

    def save(self, folder: Path) -> None:
        """Writes the checkpoint."""
        write_checkpoint(
            folder,
            {
                "settings": asdict(self.settings),
                "shape": asdict(self.shape),
                "data_digest": self.data_digest,
                "step": self.step,
                "samples": self.samples,
                "unet": self.networks.unet.state_dict(),
                "text_encoder": self.networks.text_encoder.state_dict(),
                "ema": self.ema,
                "optimizer": self.optimizer.state_dict(),
            },
        )


def new_state(
    settings: TrainSettings,
    shape: ModelShape,
    tokenizer: Any,
    data_digest: str,
    device: torch.device,
) -> TrainState:
    """A run before its first step."""
    networks = build_networks(shape, tokenizer, settings.seed).to(device)
    shares = [(networks.unet, 1.0), (networks.text_encoder, settings.text_rate_share)]
    return TrainState(
        settings=settings,
        shape=shape,
        networks=networks,
        optimizer=NetworkOptimizer(shares, settings),
        ema=start_averages(networks.parameters()),
        data_digest=data_digest,
    )


def load_state(folder: Path, tokenizer: Any, device: torch.device) -> TrainState:
    """The run as its checkpoint in the folder has it.

    Raises:
        ConfigError: there is no checkpoint, or another version of the recipe wrote it.
    """
    content = read_checkpoint(folder, device)
    state = new_state(
        TrainSettings(**content["settings"]),
        ModelShape(**content["shape"]),
        tokenizer,
        content["data_digest"],
        device,
    )
    state.networks.unet.load_state_dict(content["unet"])
    state.networks.text_encoder.load_state_dict(content["text_encoder"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.ema = content["ema"]
    state.step, state.samples = content["step"], content["samples"]
    return state
