"""The loop around training steps: reports, checkpoints, orderly stops, random numbers of a step.

Knows nothing of what is trained.
"""

from __future__ import annotations

import fcntl
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ovamgen.errors import ConfigError, OvamgenError
from recipes.mini.settings import Settings


class State(Protocol):
    """What the loop asks of a run's state."""

    @property
    def settings(self) -> Settings:
        """What was asked for."""

    @property
    def step(self) -> int:
        """Steps taken."""

    @property
    def samples(self) -> int:
        """Samples seen."""

    def save(self, folder: Path) -> None:
        """Writes the checkpoint."""


class StepTaker(Protocol):
    """What the loop asks of a trainer."""

    @property
    def state(self) -> State:
        """Changed by every step."""

    def take_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and gradient norm, scalars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Means over the steps since the last report."""

    step: int
    samples: int
    loss: float
    gradient_norm: float
    learning_rate: float
    samples_per_second: float

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"step {self.step} samples {self.samples} loss {self.loss:.4f} "
            f"rate {self.learning_rate:.1e} {self.samples_per_second:.1f} samples/s"
        )


def run(
    trainer: StepTaker,
    folder: Path,
    *,
    until_step: int,
    report_every: int = 50,
    save_every_seconds: float = 180.0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Trains to ``until_step``, or to the end of the decay; yields a report now and then.

    The checkpoint in ``folder`` is written every few minutes and at the end.

    Args:
        trainer: its state is changed.
        folder: of the checkpoint.
        until_step: stops when that many steps have been taken in all.
        report_every: steps between two reports.
        save_every_seconds: time between two checkpoints.
        should_stop: asked after every step.

    Raises:
        OvamgenError: the loss is no number; the last checkpoint is from before that.
    """
    state = trainer.state
    last = state.settings.last_step()
    until_step = until_step if last is None else min(until_step, last)
    saved = reported = time.monotonic()
    losses: list[torch.Tensor] = []
    norms: list[torch.Tensor] = []
    while state.step < until_step:
        loss, norm = trainer.take_step()
        losses.append(loss)
        norms.append(norm)
        now = time.monotonic()
        stopping = should_stop() or state.step >= until_step
        saving = stopping or now - saved >= save_every_seconds
        if saving or state.step % report_every == 0:
            mean_loss = float(torch.stack(losses).mean())
            if not math.isfinite(mean_loss):
                raise OvamgenError(
                    f"the loss must be finite, got {mean_loss} at step {state.step}: resume with "
                    "--change and a lower --learning-rate"
                )
            yield Progress(
                step=state.step,
                samples=state.samples,
                loss=mean_loss,
                gradient_norm=float(torch.stack(norms).mean()),
                learning_rate=state.settings.rate(state.step - 1),
                samples_per_second=len(losses) * state.settings.batch_size / (now - reported),
            )
            losses, norms = [], []
            reported = time.monotonic()
        if saving:
            state.save(folder)
            saved = time.monotonic()
        if stopping:
            return


def step_generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The random numbers of one step: a function of the run's seed and the step's number."""
    (number,) = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(number))


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the run's folder for the time of the block; the lock ends with the process.

    Raises:
        ConfigError: another process trains in the folder, be it paused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{folder} must have one training at a time, another process has it: stop that "
                "one first, or name another run"
            ) from None
        yield


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM, SIGINT and the end of CPU time (``ulimit -S -t``) into a flag for a block."""
    seen: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU)
    before = [signal.signal(number, lambda got, _frame: seen.append(got)) for number in numbers]
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            # Once the CPU time is over, the kernel says so every second.
            over = number == signal.SIGXCPU and number in seen
            signal.signal(number, signal.SIG_IGN if over else handler)
