"""What a training tells while it runs: a CSV file, TensorBoard where there is one, the terminal.

The CSV has no times, so that equal trainings have equal files; TensorBoard's files do have them.
"""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from ovamgen.console.progress import Progress
from ovamgen.errors import ConfigError, OvamgenError
from ovamgen.storage.whole_files import write_whole

LOG = "log.csv"
COLUMNS = ("step", "loss", "learning_rate")
LOG_STEPS = 20
"""Steps between two rows of the log."""


class TrainingLog(Progress):
    """Keeps the log of a training and shows how far it is; a context manager."""

    def __init__(self, folder: Path, *, steps: int, done: int) -> None:
        """Rows of steps after ``done``, which a crash undid, are dropped: they are taken again."""
        self._path = folder / LOG
        super().__init__("training", steps, done)
        self._images = 0
        self._board = _tensorboard(folder)
        rows = []
        if self._path.exists():
            try:
                lines = self._path.read_text("utf-8").splitlines(keepends=True)
                # a power cut may have left a part of the last one
                whole = [line for line in lines if line.endswith("\n")]
                rows = [row for row in csv.DictReader(whole) if int(row["step"]) <= done]
            except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
                raise ConfigError(
                    f"{self._path} cannot be read as the log of a training: {error!r}; remove it, "
                    "the training goes on without its past rows"
                ) from None
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self._path, text.getvalue().encode())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        super().__exit__(kind, error, trace)
        if self._board is not None:
            self._board.close()

    def tick(self, step: int, images: int, loss: float | None) -> None:
        """Counts a step; refreshes the bar, or prints a line when it is due."""
        self._done = step
        self._images += images
        told = ""
        if loss is not None:
            told = f"loss {loss:.4f}, {self.rate(self._images):.1f} images/s"

        def line() -> str:
            parts = [f"step {step}/{self._total}", told, self.time_left()]
            return ", ".join(filter(None, parts))

        self.show(step, line, note=told)

    def row(self, step: int, loss: float, learning_rate: float) -> None:
        """Adds a row to the log: the mean loss since the last one."""
        values: dict[str, Any] = {
            "step": step,
            "loss": f"{loss:.6g}",
            "learning_rate": f"{learning_rate:.6g}",
        }
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(values)
            file.flush()
            os.fsync(file.fileno())
        if self._board is not None:
            self._board.add_scalar("loss", loss, step)
            self._board.add_scalar("learning_rate", learning_rate, step)


def check_loss(mean: float, step: int, learning_rate: float) -> None:
    """Checks that the mean loss of the steps before ``step`` is a number.

    Raises:
        OvamgenError: it is not; the rate of the training is named as what to lower.
    """
    if not math.isfinite(mean):
        raise OvamgenError(
            f"the loss must be finite, got {mean} before step {step}: begin again with a lower "
            f"learning rate than {learning_rate:g}"
        )


def _tensorboard(folder: Path) -> Any:
    """A writer for TensorBoard, None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
