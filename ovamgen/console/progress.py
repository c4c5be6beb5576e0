"""How far long work is: a bar on a terminal, one line per 10 s otherwise; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from ovamgen.console import log_format

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

LINE_SECONDS = 10.0

T = TypeVar("T")
P = TypeVar("P", bound="Progress")


class Progress:
    """Counts things of one kind; a context manager that owns the terminal line."""

    def __init__(self, what: str, total: int = 0, done: int = 0) -> None:
        """``what`` is the plural: ``pictures``. Without a total nothing is shown before `start`."""
        self.bar: Bar | None = None
        """None before `start`, after the block, and where there is no terminal."""
        self._what = what
        self._total, self._done, self._before = total, done, done
        self._start = self._last_line = time.monotonic()

    def __enter__(self: P) -> P:
        """Shows the bar where there is a terminal and it is known how much there is to do."""
        if self._total:
            self.start(self._total, self._done)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves the last state on the screen."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def start(self, total: int, done: int = 0) -> None:
        """There are so many, of which some were done before and do not count for the rate."""
        # imported here: commands that only ask for help need not wait for it
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._total, self._done, self._before = total, done, done
        self._start = self._last_line = time.monotonic()
        console = Console(stderr=True)
        if console.is_terminal and not log_format.is_json():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                self.clock(),
            )
            self.bar = Bar(*columns, console=console, expand=True)
            self.bar.add_task(self._what, total=total, completed=done, note="")
            self.bar.start()

    def clock(self) -> ProgressColumn:
        """The last column of the bar: the time that is left."""
        from rich.progress import TimeRemainingColumn

        return TimeRemainingColumn()

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self._done += count
        self.show(self._done, self.line)

    def show(
        self,
        done: int,
        line: Callable[[], str],
        *,
        note: str = "",
        facts: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """Moves the bar's newest task, or prints the line where there is no bar and it is due.

        Args:
            done: things of the task that are done.
            line: makes the line; asked only when it is due.
            note: stands after the count on the bar.
            facts: what the line says, for programs; asked only where lines are JSON.
        """
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[-1], completed=done, note=note)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self.put_off()
            told: dict[str, Any] = {"what": self._what, "done": done, "total": self._total}
            if log_format.is_json():
                told |= facts()
            log_format.say(line(), event="progress", **told)

    def put_off(self) -> None:
        """The next line is due 10 s from now."""
        self._last_line = time.monotonic()

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self.bar is not None:
            self.bar.console.print(log_format.printable(text), highlight=False, markup=False)
        else:
            log_format.say(text)

    def line(self) -> str:
        """The state in one line."""
        return f"{self._done}/{self._total} {self._what}, {self.time_left()}"

    def time_left(self) -> str:
        """``0:01:30 left``, by the rate since `start`."""
        made = self._done - self._before
        if not made:
            return "waiting for the first"
        return time_left((self._total - self._done) * (time.monotonic() - self._start) / made)

    def rate(self, count: int) -> float:
        """So many things since `start`, by the second."""
        return count / max(time.monotonic() - self._start, 1e-9)


class RunProgress(Progress):
    """Counts of a run in progress."""

    def __init__(self, *, total_samples: int, done_samples: int, total_shards: int) -> None:
        """``done_samples`` were made by earlier runs and do not count for the rate."""
        super().__init__("samples", total_samples, done_samples)
        self._total_shards = total_shards
        self._images = self._failed = self._shards = 0

    def count(self, *, images: int = 0, failed: int = 0, shards: int = 0) -> None:
        """Count what has just been finished."""
        self._images += images
        self._failed += failed
        self._shards += shards
        self._done += images + failed
        self.tick()

    def tick(self) -> None:
        """Refresh the bar, or print the line when it is due."""
        self.show(self._done, self.line, note=self._rate(), facts=self._facts)

    def line(self) -> str:
        """The state in one line: samples, shards, rate, time left, failures."""
        failed = f", {self._failed} failed" if self._failed else ""
        left = self.time_left() if self._images + self._failed else "waiting for the first batch"
        return (
            f"{self._done}/{self._total} samples{failed}, {self._shards} of {self._total_shards} "
            f"shards written, {self._rate()}, {left}"
        )

    def _facts(self) -> dict[str, object]:
        return {
            "images": self._images,
            "failed": self._failed,
            "shards": self._shards,
            "shards_total": self._total_shards,
            "images_per_second": round(self.rate(self._images), 4),
        }

    def _rate(self) -> str:
        return f"{self.rate(self._images):.2f} images/s"


@runtime_checkable
class Track(Protocol):
    """Hands on the items that work is done on, and may show how many it has handed on."""

    def __call__(self, items: Iterable[T], total: int, what: str) -> Iterable[T]:
        """The items, of which there are ``total``; ``what`` is their plural."""


def untracked(items: Iterable[T], total: int, what: str) -> Iterable[T]:
    """The items; nothing is shown."""
    return items


def tracked(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items, with a `Progress` for as long as they last."""
    with Progress(what) as progress:
        progress.start(total)
        for item in items:
            yield item
            progress.add()


def time_left(seconds: float) -> str:
    """``0:01:30 left``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} left"
