"""The scheduling loop: batches to workers, what comes back to the CPU side, faults to repair.

The driver owns every task. It decides where work runs and in which order it is begun; what a
sample is made of is decided by the plan alone.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from ovamgen import fault_points
from ovamgen.cluster.connection import connected, object_store_capacity, worker_count
from ovamgen.cluster.cpu_tasks import Finishing, Refine
from ovamgen.cluster.handlers import Handlers
from ovamgen.cluster.metrics import RunMetrics
from ovamgen.cluster.open_shards import Caps, OpenBatch, OpenShard
from ovamgen.cluster.pool import Worker, WorkerPool, cause_of
from ovamgen.cluster.processes import OwnProcesses, WorkerProcesses
from ovamgen.cluster.recovery import Recovery
from ovamgen.cluster.workers import BatchStatus, WorkerReady, refine_images
from ovamgen.console.progress import RunProgress
from ovamgen.records import ShardRecord
from ovamgen.run.bad_samples import EngineFactory
from ovamgen.run.drain import Drain, drain_on_signals
from ovamgen.run.run import Run
from ovamgen.run.shard import context_of

_POLL_SECONDS = 0.5
"""How often signals and deadlines are looked at while nothing comes."""


def generate_on_ray(
    run: Run,
    progress: RunProgress,
    factory: EngineFactory | None = None,
    *,
    processes: WorkerProcesses | None = None,
    refine: Refine = refine_images,
) -> None:
    """Makes every pending shard of the run on the Ray cluster, or on one started in this process.

    Args:
        run: open.
        progress: told what is done.
        factory: loads a pipeline; the real one where none is given.
        processes: where workers live; by default a process for each.
        refine: what a refine task does; a simulation may have its own.

    Raises:
        ClusterError: nobody answers, workers that keep dying, lost nodes.
        ConfigError: no GPU where one was asked for.
        Interrupted: a signal came and its time for draining is over.
        OvamgenError: the model cannot be loaded, the first samples all fail, the store fails.
    """
    runtime = run.config.runtime
    # Ray installs its own SIGTERM handler in ray.init: ours comes after it
    with (
        connected(),
        drain_on_signals(runtime.drain_seconds, progress.say) as drain,
    ):
        count = worker_count(run.config, progress.say)
        processes = processes or OwnProcesses(run.config, factory)
        driver = Driver(run, progress, drain, count, processes, refine)
        try:
            driver.loop()
        finally:
            driver.stop()


class Driver:
    """One run's scheduler; `loop` returns when every pending shard is published."""

    def __init__(
        self,
        run: Run,
        progress: RunProgress,
        drain: Drain,
        workers: int,
        processes: WorkerProcesses,
        refine: Refine = refine_images,
    ) -> None:
        """Starts the workers; they load while the loop begins."""
        self._run = run
        self._progress = progress
        self._drain = drain
        self._metrics = RunMetrics()
        self._journal = run.journal
        self._journal.workers_wanted = workers
        self._tasks = iter(run.pending)
        self._next_task = next(self._tasks, None)  # one ahead: it is known whether there is one
        self._batches: deque[OpenBatch] = deque()
        self._open: dict[int, OpenShard] = {}
        self._handlers = Handlers()
        self._given: dict[Any, tuple[OpenBatch, Any]] = {}
        """Batches on workers: (batch, payload reference) by status reference."""
        self._recovery = Recovery(run, progress)
        self._largest_batch_bytes = 0
        self._finishing = Finishing(
            run, progress, self._handlers, self._begin_again, self._written, refine
        )
        self._caps = Caps.of(run.config, workers)
        self._store_bytes = 0  # of all nodes, which come with the workers
        self._pool = WorkerPool(
            run.config, processes, self._handlers, self._worker_ready, progress.say
        )
        self._pool.start(workers)

    def loop(self) -> None:
        """Until nothing is left, or a signal says to stop."""
        model = self._run.config.model
        self._progress.say(f"loading {model.id} on {len(self._pool.workers)} x {model.device}")
        while True:
            self._drain.check()
            self._pool.check_deadline()
            self._feed()
            if not self._open and (self._drain.asked or self._next_task is None):
                break
            self._handlers.run_ready(_POLL_SECONDS)
            self._progress.tick()
            self._journal.in_flight_bytes = self._in_flight_bytes
            self._metrics.follow(self._journal)
        if self._run.shards_left:
            self._drain.finish()

    def stop(self) -> None:
        """Ends the workers and the tasks that still run; nothing unpublished is kept."""
        self._metrics.follow(self._journal, at_once=True)
        self._pool.stop()
        for ref in self._handlers:
            if ref not in self._given:
                ray.cancel(ref, force=True)

    # ---- giving out work

    def _feed(self) -> None:
        while (worker := self._pool.free_worker()) is not None:
            if not self._batches:
                self._open_shard()
            if not self._batches or not self._has_room():
                return
            batch = self._batches.popleft()
            payload, status = self._pool.submit(worker, batch)
            self._journal.batch_given(worker.name)
            self._given[status] = (batch, payload)
            self._handlers[status] = partial(self._synthesised, worker, status)
            fault_points.reach("driver.batch_given")

    def _open_shard(self) -> None:
        task = self._next_task
        if self._drain.asked or task is None or len(self._open) >= self._caps.open_shards:
            return
        self._next_task = next(self._tasks, None)
        shard = OpenShard(task=task)
        self._open[task.shard_index] = shard
        self._batches += shard.begin()
        self._journal.shard_begun(task.shard_index, len(task.specs))

    @property
    def _in_flight_bytes(self) -> int:
        reserved = len(self._given) * self._largest_batch_bytes
        encoded = sum(shard.nbytes for shard in self._open.values())
        return reserved + self._finishing.payload_bytes + encoded

    def _has_room(self) -> bool:
        # with nothing under way, waiting would be for ever: a shard larger than the cap must end
        if len(self._handlers) == self._pool.loading_count:
            return True
        if not self._largest_batch_bytes:
            # how much a second one for each worker would be is not known yet
            return len(self._given) < len(self._pool.workers)
        cap = self._caps.in_flight_bytes(self._largest_batch_bytes, self._store_bytes)
        return self._in_flight_bytes + self._largest_batch_bytes <= cap

    # ---- taking results

    def _worker_ready(self, ready: WorkerReady) -> None:
        run = self._run
        run.confirm_model(ready.info, ready.tokens_digest)
        self._store_bytes = object_store_capacity()
        self._journal.worker_ready(ready.name, ready.seconds)
        context = context_of(run.config, run.fingerprint, ready.info, ready.tokens_digest)
        self._finishing.set_context(context)

    def _synthesised(self, worker: Worker, status_ref: Any) -> None:
        try:
            status: BatchStatus = ray.get(status_ref)
        except RayTaskError as error:
            raise cause_of(error) from None
        except RayError:
            self._worker_lost(worker)
            return
        self._journal.batch_ended(worker.name, status.seconds)
        self._pool.answered(worker, status_ref)
        batch, payload = self._given.pop(status_ref)
        self._largest_batch_bytes = max(self._largest_batch_bytes, status.nbytes)
        if batch.stale:
            return
        if batch.probe_of is not None:
            self._batches.extendleft(batch.probe_ended())
            return
        self._finishing.take(batch, payload, status)

    def _written(self, shard: OpenShard, record: ShardRecord) -> None:
        del self._open[shard.task.shard_index]
        fault_points.reach("driver.shard_written")
        self._run.finished(record)
        self._progress.count(shards=1)
        self._journal.shard_finished(record.shard_index)

    # ---- what goes wrong

    def _worker_lost(self, worker: Worker) -> None:
        """Its batches go back to the front of the queue; the first that was running is counted.

        Where two were in the worker it may be the wrong one, so it is drawn alone next time.
        """
        again: list[OpenBatch] = []
        running_found = False
        for status_ref in list(worker.queue):
            self._handlers.forget(status_ref)
            if not running_found and _succeeded(status_ref):
                self._synthesised(worker, status_ref)
                continue
            batch, _ = self._given.pop(status_ref)
            if not running_found:
                running_found = True
                batch.deaths += 1
            if not batch.stale:
                again += self._recovery.after_death(batch)
        worker.queue.clear()
        self._batches.extendleft(reversed(again))
        self._journal.worker_lost(worker.name)
        self._pool.lost(worker)

    def _begin_again(self, shard: OpenShard, error: RayError) -> None:
        """A node has left with images or samples of the shard."""
        again = self._recovery.after_loss(shard, error)
        self._batches = deque(batch for batch in self._batches if batch.shard is not shard)
        self._batches.extendleft(reversed(again))


def _succeeded(ref: Any) -> bool:
    done, _ = ray.wait([ref], timeout=0, fetch_local=False)
    if not done:
        return False
    try:
        ray.get(ref)
    except RayError:
        return False
    return True
