"""The pool of pipeline workers: start, become ready, take batches, die, be replaced.

Workers are not restarted by Ray (``max_restarts=0``): the driver replaces them, so that a worker
that dies while loading, a batch that kills its worker and a lost node are told apart, and the
pipeline of a new process is checked against the run before it gets work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from ovamgen.cluster.connection import resources_line
from ovamgen.cluster.open_work import OpenBatch
from ovamgen.cluster.workers import PipelineWorker, WorkerReady
from ovamgen.config import RunConfig
from ovamgen.errors import ClusterError
from ovamgen.isolation import EngineFactory, one_line


@dataclass(eq=False)
class Worker:
    """One actor and the references of the batches it was given, oldest first."""

    actor: Any
    ready_ref: Any
    ready: WorkerReady | None = None
    queue: list[Any] = field(default_factory=list)


class WorkerPool:
    """Workers of one run; every method returns at once."""

    def __init__(
        self,
        config: RunConfig,
        count: int,
        factory: EngineFactory | None,
        on_ready: Callable[[WorkerReady], None],
        say: Callable[[str], None],
    ) -> None:
        """``on_ready`` may raise to end the run: another model than the run's, say."""
        self._config = config
        self._factory = factory
        self._on_ready = on_ready
        self._say = say
        self._remote = ray.remote(
            num_gpus=1 if config.model.device == "cuda" else 0,
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
        )(PipelineWorker)
        self._crashes = 0
        self._none_ready_since = time.monotonic()
        self.workers = [self._start() for _ in range(count)]

    @property
    def loading(self) -> list[Any]:
        """References to wait for: workers that are not ready yet."""
        return [worker.ready_ref for worker in self.workers if worker.ready is None]

    @property
    def ready_count(self) -> int:
        """Workers that hold a loaded pipeline."""
        return sum(worker.ready is not None for worker in self.workers)

    def free_worker(self) -> Worker | None:
        """The ready worker with the shortest queue that still has room, if any."""
        depth = self._config.runtime.queue_depth
        free = [w for w in self.workers if w.ready is not None and len(w.queue) < depth]
        return min(free, key=lambda worker: len(worker.queue), default=None)

    def submit(self, worker: Worker, batch: OpenBatch) -> tuple[Any, Any]:
        """(payload, status) references of a batch given to a worker."""
        method = worker.actor.synthesise.options(num_returns=2)
        payload, status = method.remote(batch.specs, batch.culprits)
        worker.queue.append(status)
        return payload, status

    def became_ready(self, ready_ref: Any) -> None:
        """A worker's loading has ended, well or not.

        Raises:
            OvamgenError: the model, tokens or device are not usable: no retry would help.
            ClusterError: workers keep dying while they load.
        """
        worker = next(w for w in self.workers if w.ready_ref == ready_ref)
        try:
            ready = ray.get(ready_ref)
        except RayTaskError as error:
            raise cause_of(error) from None
        except RayActorError as error:
            self._crashed_at_start(worker, error)
            return
        self._on_ready(ready)
        worker.ready = ready
        self._crashes = 0
        where = f"process {ready.process_id} on {ready.host}"
        self._say(f"worker {self.ready_count} of {len(self.workers)} is ready ({where})")

    def lost(self, worker: Worker) -> None:
        """A worker that had been ready has died: another takes its place."""
        if worker not in self.workers:
            return
        self._say(f"{_name(worker)} died: starting another")
        self._replace(worker)

    def check_deadline(self) -> None:
        """Raises ClusterError when no worker has been ready for longer than is allowed."""
        if self.ready_count:
            self._none_ready_since = time.monotonic()
            return
        limit = self._config.runtime.ready_timeout_seconds
        if time.monotonic() - self._none_ready_since > limit:
            raise ClusterError(
                f"no worker became ready within {limit:g} s: expected {len(self.workers)} with "
                f"{self._config.model.device} and {self._config.model.id}, {resources_line()}; "
                "raise runtime.ready_timeout_seconds if loading takes longer"
            )

    def stop(self) -> None:
        """Ends every worker's process."""
        for worker in self.workers:
            ray.kill(worker.actor, no_restart=True)
        self.workers = []

    def _start(self) -> Worker:
        actor = self._remote.remote(self._config, self._factory)
        return Worker(actor=actor, ready_ref=actor.ready.remote())

    def _replace(self, worker: Worker) -> None:
        ray.kill(worker.actor, no_restart=True)
        self.workers[self.workers.index(worker)] = self._start()

    def _crashed_at_start(self, worker: Worker, error: RayActorError) -> None:
        self._crashes += 1
        budget = self._config.runtime.crash_budget
        if self._crashes > budget:
            raise ClusterError(
                f"{self._crashes} workers in a row died before they were ready; the last one: "
                f"{death_reason(error)}. Out of memory, a broken driver or a crashing library are "
                "the usual causes; 'ovamgen generate --runner local' shows it directly"
            )
        self._say(
            f"a worker died while loading (death {self._crashes}, the run stops at {budget + 1}): "
            "starting another"
        )
        self._replace(worker)


def cause_of(error: RayTaskError) -> BaseException:
    """The exception that the task raised, without Ray's remote traceback."""
    cause: BaseException | None = error.cause
    return cause if cause is not None else ClusterError(one_line(error))


def death_reason(error: RayError) -> str:
    """Ray's account of an actor's death on one line."""
    text = str(error) if isinstance(error, ActorDiedError) else one_line(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[-400:]


def _name(worker: Worker) -> str:
    if worker.ready is None:
        return "a worker"
    return f"the worker in process {worker.ready.process_id} on {worker.ready.host}"
