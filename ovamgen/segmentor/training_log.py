"""What a training tells while it runs: a CSV file, TensorBoard where there is one, the terminal.

The CSV has no times, so that equal trainings have equal files; TensorBoard's files do have them.
"""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import TextColumn, TimeRemainingColumn

from ovamgen.console.terminal import TerminalBar, time_left
from ovamgen.errors import ConfigError

LOG = "log.csv"
COLUMNS = ("step", "loss", "learning_rate")


class TrainingLog:
    """Keeps the log of a training and shows how far it is; a context manager."""

    def __init__(self, folder: Path, *, steps: int, done: int) -> None:
        """Rows of steps after ``done``, which a crash undid, are dropped: they are taken again."""
        self._path = folder / LOG
        self._steps = steps
        self._done = done
        self._start = time.monotonic()
        self._images = 0
        self._terminal = TerminalBar()
        self._board = _tensorboard(folder)
        rows = []
        if self._path.exists():
            try:
                with self._path.open(newline="", encoding="utf-8") as file:
                    rows = [row for row in csv.DictReader(file) if int(row["step"]) <= done]
            except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
                raise ConfigError(
                    f"{self._path} cannot be read as the log of a training: {error!r}; remove it, "
                    "the training goes on without its past rows"
                ) from None
        temporary = self._path.with_name(f".{LOG}.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self._path)

    def __enter__(self) -> TrainingLog:
        """Show the bar where there is a terminal."""
        columns = (TextColumn("{task.fields[told]}"), TimeRemainingColumn())
        self._terminal.open(*columns, task="training", total=self._steps, done=self._done, told="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        self._terminal.close()
        if self._board is not None:
            self._board.close()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._terminal.say(text)

    def tick(self, step: int, images: int, loss: float | None) -> None:
        """Counts a step; refreshes the bar, or prints a line when it is due."""
        self._images += images
        told = f"loss {loss:.4f}, {self._rate():.1f} images/s" if loss is not None else ""

        def line() -> str:
            return ", ".join(filter(None, [f"step {step}/{self._steps}", told, self._left(step)]))

        self._terminal.show(step, line, told=told)

    def row(self, step: int, loss: float, learning_rate: float) -> None:
        """Adds a row to the log: the mean loss since the last one."""
        values: dict[str, Any] = {
            "step": step,
            "loss": f"{loss:.6g}",
            "learning_rate": f"{learning_rate:.6g}",
        }
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(values)
        if self._board is not None:
            self._board.add_scalar("loss", loss, step)
            self._board.add_scalar("learning_rate", learning_rate, step)

    def _rate(self) -> float:
        return self._images / max(time.monotonic() - self._start, 1e-9)

    def _left(self, step: int) -> str:
        each = (time.monotonic() - self._start) / max(step - self._done, 1)
        return time_left((self._steps - step) * each)


def _tensorboard(folder: Path) -> Any:
    """A writer for TensorBoard, None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
