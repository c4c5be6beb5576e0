"""How far a command is: a bar on a terminal, one line per 10 s otherwise; always on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from ovamgen.console.terminal import TerminalBar


class Counting:
    """Counts things of one kind; a context manager that owns the terminal line."""

    def __init__(self, what: str) -> None:
        """``what`` is the plural: ``pictures``."""
        self._what = what
        self._total = 0
        self._done = 0
        self._before = 0
        self._start = time.monotonic()
        self._terminal = TerminalBar()

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
        self._terminal.close()

    def start(self, total: int, done: int = 0) -> None:
        """There are so many, of which some were done before and do not count for the rate."""
        from rich.progress import TimeRemainingColumn

        self._total, self._done, self._before = total, done, done
        self._start = time.monotonic()
        self._terminal.open(TimeRemainingColumn(), task=self._what, total=total, done=done)

    def add(self) -> None:
        """One more is done."""
        self._done += 1
        self._terminal.show(self._done, self._line)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._terminal.say(text)

    def _line(self) -> str:
        seconds = (time.monotonic() - self._start) / (self._done - self._before)
        left = round(seconds * (self._total - self._done))
        return f"{self._done}/{self._total} {self._what}, about {left} s left"
