"""What long work shows on stderr: a bar where there is a terminal, a line per 10 s otherwise.

It knows how to show; what is counted, and in which words, is elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ovamgen.console import log_format

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

LINE_SECONDS = 10.0


class TerminalBar:
    """The bar, where one is open, and the time of the last line."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        """None before `open`, after `close`, and where there is no terminal."""
        self._last_line = time.monotonic()
        self._task, self._total = "", 0

    def open(
        self, *columns: ProgressColumn, task: str, total: int, done: int, **fields: Any
    ) -> None:
        """Shows the bar of a first task where there is a terminal; lines count from now.

        Args:
            columns: what stands after the bar and the count, such as the time that is left.
            task: its description.
            total: things to do.
            done: of which were there before.
            fields: further fields of the task, for columns of text.
        """
        # imported here: commands that only ask for help need not wait for it
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.put_off()
        self._task, self._total = task, total
        console = Console(stderr=True)
        if console.is_terminal and not log_format.is_json():
            first = (TextColumn("{task.description}"), BarColumn(bar_width=None))
            self.bar = Progress(
                *first, MofNCompleteColumn(), *columns, console=console, expand=True
            )
            self.bar.add_task(task, total=total, completed=done, **fields)
            self.bar.start()

    def close(self) -> None:
        """Leaves the last state on the screen."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self.bar is not None:
            self.bar.console.print(log_format.printable(text), highlight=False, markup=False)
        else:
            log_format.say(text)

    def show(
        self,
        done: int,
        line: Callable[[], str],
        *,
        facts: Callable[[], Mapping[str, object]] = dict,
        **fields: Any,
    ) -> None:
        """Moves the bar's newest task, or prints the line where there is no bar and it is due.

        Args:
            done: things of the task that are done.
            line: makes the line; asked only when it is due.
            facts: what the line says, for programs; asked only where lines are JSON.
            fields: new values of the task's fields.
        """
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[-1], completed=done, **fields)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self.put_off()
            told: dict[str, Any] = {"what": self._task, "done": done, "total": self._total}
            if log_format.is_json():
                told |= facts()
            log_format.say(line(), event="progress", **told)

    def put_off(self) -> None:
        """The next line is due 10 s from now."""
        self._last_line = time.monotonic()


def time_left(seconds: float) -> str:
    """``0:01:30 left``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} left"
