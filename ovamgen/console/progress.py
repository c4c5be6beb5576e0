"""How far a run is: a bar on a terminal, one line per 10 s otherwise; always on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import TextColumn, TimeRemainingColumn

from ovamgen.console.terminal import TerminalBar, time_left


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
        self._terminal = TerminalBar()

    def __enter__(self) -> RunProgress:
        """Show the bar where there is a terminal."""
        columns = (TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
        self._terminal.open(*columns, task="samples", total=self._total, done=self._before, rate="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        self._terminal.close()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._terminal.say(text)

    def add(self, *, images: int = 0, failed: int = 0, shards: int = 0) -> None:
        """Count what has just been finished."""
        self._images += images
        self._failed += failed
        self._shards += shards
        self.tick()

    def tick(self) -> None:
        """Refresh the bar, or print the line when it is due."""
        done = self._before + self._images + self._failed
        self._terminal.show(done, self.line, facts=self._facts, rate=self._rate())

    def line(self) -> str:
        """The state in one line: samples, shards, rate, time left, failures."""
        done = self._before + self._images + self._failed
        failed = f", {self._failed} failed" if self._failed else ""
        return (
            f"{done}/{self._total} samples{failed}, {self._shards} of {self._total_shards} shards "
            f"written, {self._rate()}, {self._left()}"
        )

    def _facts(self) -> dict[str, object]:
        return {
            "images": self._images,
            "failed": self._failed,
            "shards": self._shards,
            "shards_total": self._total_shards,
            "images_per_second": round(self._images_per_second(), 4),
        }

    def _rate(self) -> str:
        return f"{self._images_per_second():.2f} images/s"

    def _images_per_second(self) -> float:
        return self._images / max(time.monotonic() - self._start, 1e-9)

    def _left(self) -> str:
        made = self._images + self._failed
        if not made:
            return "waiting for the first batch"
        remaining = self._total - self._before - made
        return time_left(remaining * (time.monotonic() - self._start) / made)
