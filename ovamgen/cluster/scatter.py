"""Independent tasks handed to workers on Ray: results and failures as they come.

For work that is not a corpus: each task stands alone, and what it is about is not known here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from ovamgen.cluster.connection import connected, worker_count
from ovamgen.cluster.pool import cause_of, death_reason
from ovamgen.config import RunConfig
from ovamgen.errors import ClusterError, SampleError
from ovamgen.run.drain import interrupt, signals_to

ATTEMPTS = 2
"""Times that a task may take its worker down before it has failed."""
_POLL_SECONDS = 1.0


class OpenedWorker(Protocol):
    """What runs tasks, in a process of its own."""

    note: str
    """Said once, when the first worker is ready."""

    def __call__(self, task: Any) -> Any:
        """The result of one task."""


OpenWorker = Callable[[int], OpenedWorker]
"""Makes a worker, told how many there are; must be picklable."""


class ScatterWorker:
    """The actor around what runs tasks."""

    def __init__(self, open_worker: OpenWorker, count: int) -> None:
        """Loads nothing yet: an error while loading is to come back from `ready`, by name."""
        self._open, self._count = open_worker, count

    def ready(self) -> str:
        """Loads what runs tasks; its note."""
        self._worker = self._open(self._count)
        return self._worker.note

    def run(self, task: Any) -> Any:
        """The result of one task."""
        return self._worker(task)


@dataclass(eq=False)
class _Seat:
    """One worker and the one thing it was asked for: to be ready, or a task."""

    actor: Any
    task: int | None = None


def scatter(
    config: RunConfig,
    open_worker: OpenWorker,
    tasks: Sequence[Any],
    say: Callable[[str], None],
) -> Iterator[tuple[int, Any]]:
    """(index of a task, its result or the exception that it raised), as they come.

    A task whose worker dies is tried once more on a new one. Leaving the iteration ends the
    workers, and the Ray that was started for it.

    Args:
        config: ``model.device`` says whether each worker needs a GPU; ``runtime`` how many.
        open_worker: makes a worker in its process.
        tasks: picklable.
        say: told how many workers there are.

    Raises:
        ClusterError: Ray cannot be reached, or workers die while they load.
        ConfigError: there is no GPU where one was asked for.
        Interrupted: a signal came.
        Exception: what `open_worker` raised: no task could run.
    """
    # Ray's own handler, set by ray.init, would exit
    with connected(), signals_to(interrupt):
        count = min(worker_count(config, say), len(tasks))
        say(f"{len(tasks)} tasks on {count} worker{'s' * (count != 1)} ({config.model.device})")
        crew = _Crew(config, open_worker, count, say)
        try:
            yield from crew.work(tasks)
        finally:
            crew.stop()


class _Crew:
    """The workers of one scatter."""

    def __init__(
        self, config: RunConfig, open_worker: OpenWorker, count: int, say: Callable[[str], None]
    ) -> None:
        self._remote = ray.remote(
            num_gpus=1 if config.model.device == "cuda" else 0,
            num_cpus=0,
            scheduling_strategy="SPREAD",
            max_restarts=0,
            max_task_retries=0,
        )(ScatterWorker)
        self._open, self._count, self._say = open_worker, count, say
        self._deaths_at_start, self._budget = 0, config.runtime.crash_budget
        self._said = False
        self._asked: dict[Any, _Seat] = {}
        for _ in range(count):
            self._start()

    def work(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """All results."""
        waiting = deque(range(len(tasks)))
        attempts = [0] * len(tasks)
        left = len(tasks)
        while left:
            done, _ = ray.wait(list(self._asked), timeout=_POLL_SECONDS)
            for reference in done:
                seat = self._asked.pop(reference)
                index = seat.task
                try:
                    came = ray.get(reference)
                except RayTaskError as error:
                    if index is None:
                        raise cause_of(error) from None
                    came = cause_of(error)
                except RayActorError as error:
                    reason = death_reason(error)
                    if index is None:
                        self._died_at_start(reason)
                        continue
                    self._start()
                    if attempts[index] < ATTEMPTS:
                        self._say(f"a worker died ({reason}): starting another")
                        waiting.appendleft(index)
                        continue
                    came = SampleError(f"its worker died {ATTEMPTS} times: {reason}")
                    left -= 1
                    yield index, came
                    continue
                if index is None:
                    self._announce(came)
                else:
                    left -= 1
                    yield index, came
                if waiting:
                    seat.task = waiting.popleft()
                    attempts[seat.task] += 1
                    self._asked[seat.actor.run.remote(tasks[seat.task])] = seat
                else:
                    # its memory or GPU is free for others; a task that comes back gets a new one
                    ray.kill(seat.actor, no_restart=True)

    def stop(self) -> None:
        """Ends every worker's process."""
        for seat in self._asked.values():
            try:
                ray.kill(seat.actor, no_restart=True)
            except RayError:
                # it is gone already
                continue
        self._asked = {}

    def _start(self) -> None:
        actor = self._remote.remote(self._open, self._count)
        self._asked[actor.ready.remote()] = _Seat(actor)

    def _died_at_start(self, reason: str) -> None:
        self._deaths_at_start += 1
        if self._deaths_at_start > self._budget:
            raise ClusterError(
                f"{self._deaths_at_start} workers died before they were ready; the last one: "
                f"{reason}. Out of memory is the usual cause: use fewer --workers"
            )
        self._start()

    def _announce(self, note: str) -> None:
        if not self._said:
            self._say(note)
            self._said = True
