"""How far token optimisation is: a bar a class on a terminal, a line a class otherwise; stderr."""

from __future__ import annotations

from types import TracebackType

from rich.progress import TextColumn, TimeElapsedColumn

from ovamgen.console.terminal import TerminalBar
from ovamgen.tokens.learning import ClassResult

_NAME_WIDTH = 14
"""So that the bars of a class and of all classes begin in one column."""


class LearningProgress:
    """Classes done of all, and the steps of the one that is learnt here; a context manager."""

    def __init__(self, *, total: int, done: int) -> None:
        """``done`` classes were learnt by an earlier call."""
        self._total = total
        self._done = done
        self._class = ""
        self._steps = 0
        self._terminal = TerminalBar()

    def __enter__(self) -> LearningProgress:
        """Show the bars where there is a terminal."""
        columns = (TextColumn("{task.fields[note]}"), TimeElapsedColumn())
        name = "classes".ljust(_NAME_WIDTH)
        self._terminal.open(*columns, task=name, total=self._total, done=self._done, note="")
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
        """A line of its own, above the bars."""
        self._terminal.say(text)

    def started(self, name: str, steps: int) -> None:
        """A class is begun in this process."""
        self._class, self._steps = name, steps
        bar = self._terminal.bar
        if bar is not None:
            for task in bar.task_ids[1:]:
                bar.remove_task(task)
            bar.add_task(name.ljust(_NAME_WIDTH), total=steps, note="drawing")

    def step(self, step: int, loss: float) -> None:
        """One step of the class is done; the loss was before it."""
        note = f"loss {loss:.4f}"
        line = f"{self._class}: step {step + 1} of {self._steps}, {note}"
        self._terminal.show(step + 1, lambda: line, note=note)

    def finished(self, name: str, came: ClassResult | str) -> None:
        """A class is learnt, or has failed for a reason."""
        self._done += 1
        self._terminal.put_off()
        bar = self._terminal.bar
        if bar is not None:
            bar.update(bar.task_ids[0], completed=self._done)
        if isinstance(came, str):
            what = f"FAILED: {came}"
        else:
            what = f"loss {came.losses[0]:.4f} -> {came.losses.min():.4f}"
        self.say(f"{self._done}/{self._total} {name}: {what}")
