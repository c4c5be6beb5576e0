"""How far a run is: a bar on a terminal, one line per 10 s otherwise; always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0


class RunProgress:
    """Counts of a run in progress; a context manager that owns the terminal line."""

    def __init__(self, *, total_samples: int, done_samples: int, total_shards: int) -> None:
        """``done_samples`` were made by earlier runs and do not count for the rate."""
        self._total = total_samples
        self._before = done_samples
        self._total_shards = total_shards
        self._images = 0
        self._failed = 0
        self._shards = 0
        self._start = time.monotonic()
        self._last_line = self._start
        self._bar: Progress | None = None

    def __enter__(self) -> RunProgress:
        """Show the bar where there is a terminal."""
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, expand=True)
            self._bar.add_task("samples", total=self._total, completed=self._before, rate="")
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
        """A line of its own, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def add(self, *, images: int = 0, failed: int = 0, shards: int = 0) -> None:
        """Count what has just been finished."""
        self._images += images
        self._failed += failed
        self._shards += shards
        self.tick()

    def tick(self) -> None:
        """Refresh the bar, or print the line when it is due."""
        if self._bar is not None:
            done = self._before + self._images + self._failed
            self._bar.update(self._bar.task_ids[0], completed=done, rate=self._rate())
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.say(self.line())

    def line(self) -> str:
        """The state in one line: samples, shards, rate, time left, failures."""
        done = self._before + self._images + self._failed
        failed = f", {self._failed} failed" if self._failed else ""
        return (
            f"{done}/{self._total} samples{failed}, {self._shards} of {self._total_shards} shards "
            f"written, {self._rate()}, {self._left()}"
        )

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        return f"{self._images / seconds:.2f} images/s"

    def _left(self) -> str:
        made = self._images + self._failed
        if not made:
            return "waiting for the first batch"
        remaining = self._total - self._before - made
        seconds = remaining * (time.monotonic() - self._start) / made
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left"
