"""How far token optimisation is: a bar a class on a terminal, a line a class otherwise; stderr."""

from __future__ import annotations

from rich.progress import ProgressColumn, TimeElapsedColumn

from ovamgen.console.progress import Progress
from ovamgen.tokens.learning import ClassResult

_NAME_WIDTH = 14
"""So that the bars of a class and of all classes begin in one column."""


class LearningProgress(Progress):
    """Classes done of all, and the steps of the one that is learnt here; a context manager."""

    def __init__(self, *, total: int, done: int) -> None:
        """``done`` classes were learnt by an earlier call."""
        super().__init__("classes".ljust(_NAME_WIDTH), total, done)
        self._class = ""
        self._steps = 0

    def clock(self) -> ProgressColumn:
        """The time since the class was begun: steps of one class tell nothing of the next."""
        return TimeElapsedColumn()

    def started(self, name: str, steps: int) -> None:
        """A class is begun in this process."""
        self._class, self._steps = name, steps
        if self.bar is not None:
            for task in self.bar.task_ids[1:]:
                self.bar.remove_task(task)
            self.bar.add_task(name.ljust(_NAME_WIDTH), total=steps, note="drawing")

    def step(self, step: int, loss: float) -> None:
        """One step of the class is done; the loss was before it."""
        note = f"loss {loss:.4f}"
        self.show(
            step + 1, lambda: f"{self._class}: step {step + 1} of {self._steps}, {note}", note=note
        )

    def finished(self, name: str, came: ClassResult | str) -> None:
        """A class is learnt, or has failed for a reason."""
        self._done += 1
        self.put_off()
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self._done)
        if isinstance(came, str):
            what = f"FAILED: {came}"
        else:
            what = f"loss {came.losses[0]:.4f} -> {came.losses.min():.4f}"
        self.say(f"{self._done}/{self._total} {name}: {what}")
