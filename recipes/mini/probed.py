"""Training with logs, and with a probe now and then; what is trained is not known here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from recipes.mini.journal import PROBE_LOG, TRAIN_LOG, append_row, forget_after, progress_row
from recipes.mini.loop import StepTaker, run, stop_signals


def train(
    trainer: StepTaker,
    folder: Path,
    *,
    until_step: int,
    probe_every: int,
    probe: Callable[[], str],
    minutes: float | None = None,
    show: Callable[[str], None] = print,
) -> None:
    """Trains with a log, and probes every so many steps and at the end.

    SIGTERM, SIGINT and the end of ``minutes`` stop it in order, with a checkpoint.

    Args:
        trainer: its state is changed.
        folder: of the checkpoint and the logs; rows of steps that a resumed run takes again go.
        until_step: stops when that many steps have been taken in all.
        probe_every: steps between two probes.
        probe: measures the state, writes what it finds, and says it in a line.
        minutes: stop after that time.
        show: takes the lines.
    """
    state = trainer.state
    for log in (TRAIN_LOG, PROBE_LOG):
        forget_after(folder / log, state.step)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    probed = state.step
    with stop_signals() as stopped:

        def should_stop() -> bool:
            return stopped() or (deadline is not None and time.monotonic() > deadline)

        for progress in run(trainer, folder, until_step=until_step, should_stop=should_stop):
            append_row(folder / TRAIN_LOG, progress_row(progress))
            show(str(progress))
            if progress.step // probe_every > probed // probe_every and not should_stop():
                probed = progress.step
                show(probe())
        if probed != state.step and not stopped():
            show(probe())
