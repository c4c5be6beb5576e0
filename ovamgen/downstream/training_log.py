"""What a training tells while it runs: a CSV file, TensorBoard where there is one, the terminal."""

from __future__ import annotations

import csv
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ovamgen.progress import LINE_SECONDS

LOG = "log.csv"
COLUMNS = ("step", "loss", "learning_rate", "images_per_second")


class TrainingLog:
    """Keeps the log of a training and shows how far it is; a context manager."""

    def __init__(self, folder: Path, *, steps: int, done: int) -> None:
        """Rows of steps after ``done``, which a crash undid, are dropped: they are taken again."""
        self._path = folder / LOG
        self._steps = steps
        self._done = done
        self._start = self._last_line = time.monotonic()
        self._images = 0
        self._bar: Progress | None = None
        self._board = _tensorboard(folder)
        rows = []
        if self._path.exists():
            with self._path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= done]
        temporary = self._path.with_name(f".{LOG}.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self._path)

    def __enter__(self) -> TrainingLog:
        """Show the bar where there is a terminal."""
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                TextColumn("training"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, expand=True)
            self._bar.add_task("", total=self._steps, completed=self._done)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def tick(self, step: int, images: int, loss: float | None) -> None:
        """Counts a step; refreshes the bar, or prints a line when it is due."""
        self._images += images
        told = f"loss {loss:.4f}, {self._rate():.1f} images/s" if loss is not None else ""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, description=told)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            parts = [f"step {step}/{self._steps}", told, self._left(step)]
            self.say(", ".join(filter(None, parts)))

    def row(self, step: int, loss: float, learning_rate: float) -> None:
        """Adds a row to the log: the mean loss since the last one."""
        values: dict[str, Any] = {
            "step": step,
            "loss": f"{loss:.6g}",
            "learning_rate": f"{learning_rate:.6g}",
            "images_per_second": f"{self._rate():.4g}",
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
        minutes, seconds = divmod(round((self._steps - step) * each), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left"


def _tensorboard(folder: Path) -> Any:
    """A writer for TensorBoard, None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
