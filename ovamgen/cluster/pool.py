"""The pool of pipeline workers: start, become ready, take batches, die, be replaced.

Workers are not restarted by Ray (``max_restarts=0``): the driver replaces them, so that a worker
that dies while loading, a batch that kills its worker and a lost node are told apart, and the
pipeline of a new process is checked against the run before it gets work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from ovamgen.cluster.connection import resources_line
from ovamgen.cluster.handlers import Handlers
from ovamgen.cluster.open_shards import OpenBatch
from ovamgen.cluster.processes import WorkerProcess, WorkerProcesses
from ovamgen.cluster.workers import WorkerReady
from ovamgen.config import RunConfig
from ovamgen.errors import ClusterError
from ovamgen.run.bad_samples import one_line


@dataclass(eq=False)
class Worker:
    """One process and the references of the batches it was given, oldest first."""

    process: WorkerProcess
    ready_ref: Any
    ready: WorkerReady | None = None
    queue: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What people call it, once it is ready."""
        return self.ready.name if self.ready else "a worker"


class WorkerPool:
    """Workers of one run; every method returns at once."""

    def __init__(
        self,
        config: RunConfig,
        processes: WorkerProcesses,
        handlers: Handlers,
        on_ready: Callable[[WorkerReady], None],
        say: Callable[[str], None],
    ) -> None:
        """``on_ready`` may raise to end the run: another model than the run's, say."""
        self._config = config
        self._processes = processes
        self._handlers = handlers
        self._on_ready = on_ready
        self._say = say
        self._crashes = 0
        self._none_ready_since = time.monotonic()
        self.workers: list[Worker] = []
        self.ready_count = 0
        """Workers that hold a loaded pipeline."""
        depth = config.runtime.queue_depth
        self._with_room: list[dict[Worker, None]] = [{} for _ in range(depth)]
        """Ready workers by the length of their queue, those first that have waited longest."""

    def start(self, count: int) -> None:
        """Starts the workers; each loads its pipeline now."""
        self.workers = [self._start() for _ in range(count)]

    @property
    def loading_count(self) -> int:
        """Workers that are not ready yet."""
        return len(self.workers) - self.ready_count

    def free_worker(self) -> Worker | None:
        """The ready worker with the shortest queue that still has room, if any."""
        return next((next(iter(workers)) for workers in self._with_room if workers), None)

    def submit(self, worker: Worker, batch: OpenBatch) -> tuple[Any, Any]:
        """(payload, status) references of a batch given to a worker."""
        payload, status = worker.process.synthesise(
            batch.specs, batch.culprits, alone=batch.suspect
        )
        self._remove(worker)
        worker.queue.append(status)
        self._offer(worker)
        return payload, status

    def answered(self, worker: Worker, status: Any) -> None:
        """A batch has left the worker's queue."""
        self._remove(worker)
        worker.queue.remove(status)
        self._offer(worker)

    def _became_ready(self, worker: Worker) -> None:
        """A worker's loading has ended, well or not.

        Raises:
            OvamgenError: the model, tokens or device are not usable: no retry would help.
            ClusterError: workers keep dying while they load.
        """
        try:
            ready = ray.get(worker.ready_ref)
        except RayTaskError as error:
            raise cause_of(error) from None
        except RayActorError as error:
            self._crashed_at_start(worker, error)
            return
        self._on_ready(ready)
        worker.ready = ready
        self.ready_count += 1
        self._offer(worker)
        self._crashes = 0
        self._say(f"worker {self.ready_count} of {len(self.workers)} is ready ({ready.name})")

    def lost(self, worker: Worker) -> None:
        """A worker that had been ready has died: another takes its place."""
        if worker not in self.workers:
            return
        self._say(f"the worker in {worker.name} died: starting another")
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
            self._handlers.forget(worker.ready_ref)
            worker.process.end()
        self.workers = []

    def _start(self) -> Worker:
        process = self._processes.start()
        worker = Worker(process=process, ready_ref=process.ready())
        self._handlers[worker.ready_ref] = partial(self._became_ready, worker)
        return worker

    def _replace(self, worker: Worker) -> None:
        self._remove(worker)
        self.ready_count -= worker.ready is not None
        worker.process.end()
        self.workers[self.workers.index(worker)] = self._start()

    def _offer(self, worker: Worker) -> None:
        """The worker can be given a batch, if its queue has room."""
        if len(worker.queue) < len(self._with_room):
            self._with_room[len(worker.queue)][worker] = None

    def _remove(self, worker: Worker) -> None:
        """The worker is not to be given batches, or its queue is about to change."""
        for workers in self._with_room:
            workers.pop(worker, None)

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
