"""How far token optimisation is: a bar a class on a terminal, a line a class otherwise; stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ovamgen.tokens.learning import ClassResult

LINE_SECONDS = 10.0


class LearningProgress:
    """Classes done of all, and the steps of the one that is learnt here; a context manager."""

    def __init__(self, *, total: int, done: int) -> None:
        """``done`` classes were learnt by an earlier call."""
        self._total = total
        self._done = done
        self._class = ""
        self._steps = 0
        self._last_line = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> LearningProgress:
        """Show the bars where there is a terminal."""
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                TextColumn("{task.description:<14}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=console, expand=True)
            self._bar.add_task("classes", total=self._total, completed=self._done, note="")
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

    def say(self, text: str) -> None:
        """A line of its own, above the bars."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def started(self, name: str, steps: int) -> None:
        """A class is begun in this process."""
        self._class, self._steps = name, steps
        if self._bar is not None:
            for task in self._bar.task_ids[1:]:
                self._bar.remove_task(task)
            self._bar.add_task(name, total=steps, note="drawing")

    def step(self, step: int, loss: float) -> None:
        """One step of the class is done; the loss was before it."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[-1], completed=step + 1, note=f"loss {loss:.4f}")
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"{self._class}: step {step + 1} of {self._steps}, loss {loss:.4f}")

    def finished(self, name: str, came: ClassResult | str) -> None:
        """A class is learnt, or has failed for a reason."""
        self._done += 1
        self._last_line = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)
        if isinstance(came, str):
            what = f"FAILED: {came}"
        else:
            what = f"loss {came.losses[0]:.4f} -> {came.losses.min():.4f}"
        self.say(f"{self._done}/{self._total} {name}: {what}")
