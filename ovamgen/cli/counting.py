"""How far a command is: a bar on a terminal, one line per 10 s otherwise; always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 10.0


class Counting:
    """Counts things of one kind; a context manager that owns the terminal line."""

    def __init__(self, what: str) -> None:
        """``what`` is the plural: ``pictures``."""
        self._what = what
        self._total = 0
        self._done = 0
        self._before = 0
        self._start = self._last_line = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Counting:
        """The bar appears with `start`, when it is known how much there is to do."""
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
            self._bar = None

    def start(self, total: int, done: int = 0) -> None:
        """There are so many, of which some were done before and do not count for the rate."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self._total, self._done, self._before = total, done, done
        self._start = self._last_line = time.monotonic()
        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = Progress(
                "{task.description}",
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
                expand=True,
            )
            self._bar.add_task(self._what, total=total, completed=done)
            self._bar.start()

    def add(self) -> None:
        """One more is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            seconds = (self._last_line - self._start) / (self._done - self._before)
            left = round(seconds * (self._total - self._done))
            self.say(f"{self._done}/{self._total} {self._what}, about {left} s left")

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)
