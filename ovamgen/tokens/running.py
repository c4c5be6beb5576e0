"""Classes learnt, here or on Ray, and how far that is: bars on a terminal, else lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from rich.progress import ProgressColumn, TimeElapsedColumn

from ovamgen.config import RunConfig
from ovamgen.console.progress import Progress
from ovamgen.errors import ClusterError, SampleError
from ovamgen.tokens.learning import ClassResult, ClassTask, LearnerLimits, TokenLearner

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


def learn_here(
    config: RunConfig,
    tasks: Sequence[ClassTask],
    memory_bytes: int | None,
    progress: LearningProgress,
) -> Iterator[tuple[str, ClassResult | str]]:
    """(class, result or why it failed), one after the other in this process.

    Args:
        config: of the samples.
        tasks: the classes.
        memory_bytes: for one class's queries; None for what is free.
        progress: is told what happens.

    Raises:
        OvamgenError: the model cannot be loaded, or the queries do not fit.
    """
    progress.say(f"loading {config.model.id} on {config.model.device}")
    learner = TokenLearner(config, LearnerLimits(memory_bytes=memory_bytes))
    images = max(len(task.training) for task in tasks)
    learner.check_memory(images)
    progress.say(learner.memory.line(images))
    for task in tasks:
        progress.started(task.class_name, task.settings.steps)
        try:
            yield task.class_name, learner.learn(task, progress.step)
        except SampleError as error:
            yield task.class_name, str(error)


def learn_on_ray(
    config: RunConfig,
    tasks: Sequence[ClassTask],
    memory_bytes: int | None,
    progress: LearningProgress,
) -> Iterator[tuple[str, ClassResult | str]]:
    """(class, result or why it failed), in the order in which they come.

    Args:
        config: of the samples; ``runtime.workers`` models are held at once.
        tasks: the classes.
        memory_bytes: for one class's queries; None for a fair share of what is free.
        progress: is told what happens.

    Raises:
        ClusterError: Ray cannot be reached, or workers die while they load.
        OvamgenError: the model cannot be loaded, or the queries do not fit: of every worker.
    """
    from ovamgen.cluster.scatter import scatter

    images = max(len(task.training) for task in tasks)
    open_worker = partial(_open, config, memory_bytes, images)
    for index, came in scatter(config, open_worker, tasks, progress.say):
        name = tasks[index].class_name
        if isinstance(came, BaseException):
            yield name, str(came) if str(came) else type(came).__name__
        elif isinstance(came, ClassResult):
            yield name, came
        else:
            raise ClusterError(f"a result of {name} was expected, got a {type(came).__name__}")


class _Worker:
    """A learner as `scatter` runs it."""

    def __init__(self, learner: TokenLearner, images: int) -> None:
        self._learner = learner
        self.note = learner.memory.line(images)

    def __call__(self, task: ClassTask) -> ClassResult:
        return self._learner.learn(task)


def _open(config: RunConfig, memory_bytes: int | None, images: int, workers: int) -> _Worker:
    learner = TokenLearner(config, LearnerLimits(memory_bytes=memory_bytes, workers=workers))
    learner.check_memory(images)
    return _Worker(learner, images)
