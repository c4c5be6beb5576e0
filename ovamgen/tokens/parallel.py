"""Classes learnt in parallel on Ray, each worker with a model of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from ovamgen.cluster.scatter import scatter
from ovamgen.config import RunConfig
from ovamgen.errors import ClusterError
from ovamgen.tokens.learning import ClassResult, ClassTask, LearnerLimits, TokenLearner
from ovamgen.tokens.progress import LearningProgress


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
