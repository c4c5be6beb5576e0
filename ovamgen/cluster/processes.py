"""The processes that workers live in: one for each, or, to simulate many, one for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import ray

from ovamgen.cluster.workers import BatchStatus, PipelineWorker, WorkerReady
from ovamgen.config import RunConfig
from ovamgen.records import SampleSpec, SynthesisBatch
from ovamgen.run.bad_samples import EngineFactory


@runtime_checkable
class WorkerProcess(Protocol):
    """Where one worker runs; methods return at once, with references to what will come."""

    def ready(self) -> Any:
        """A `WorkerReady`, once the pipeline is loaded."""

    def synthesise(
        self, specs: Sequence[SampleSpec], culprits: Mapping[str, str], *, alone: bool
    ) -> Any:
        """(payload, `BatchStatus`) of a batch; batches begin one after the other.

        Args:
            specs: the batch as it was planned.
            culprits: reason by key, of samples that are left out.
            alone: no other batch is in the process meanwhile.
        """

    def end(self) -> None:
        """Kills the process."""


@runtime_checkable
class WorkerProcesses(Protocol):
    """Starts processes."""

    def start(self) -> WorkerProcess:
        """One more worker."""


class OwnProcesses:
    """An actor for each worker: what a run uses."""

    def __init__(self, config: RunConfig, factory: EngineFactory | None) -> None:
        """``factory`` loads the pipeline; the real one where none is given."""
        self._config, self._factory = config, factory
        on_gpu = config.model.device == "cuda"
        self._remote = ray.remote(
            num_gpus=1 if on_gpu else 0,
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=config.runtime.worker_batches or (2 if on_gpu else 1),
        )(PipelineWorker)

    def start(self) -> WorkerProcess:
        """One more actor."""
        return _OwnProcess(self._remote.remote(self._config, self._factory))


class _OwnProcess:
    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._synthesise = actor.synthesise_in_turn.options(num_returns=2)
        self._given = 0

    def ready(self) -> Any:
        return self._actor.ready.remote()

    def synthesise(
        self, specs: Sequence[SampleSpec], culprits: Mapping[str, str], *, alone: bool
    ) -> Any:
        turn, self._given = self._given, self._given + 1
        return self._synthesise.remote(specs, culprits, turn, alone)

    def end(self) -> None:
        ray.kill(self._actor, no_restart=True)


class SharedProcesses:
    """An actor for several workers that mostly wait, each with a thread of its own.

    A machine without GPUs can so hold as many workers as a cluster with hundreds of them has.
    """

    def __init__(self, config: RunConfig, factory: EngineFactory, seats: int) -> None:
        """``seats`` is the number of workers in one process."""
        self._config, self._factory, self._seats = config, factory, seats
        groups = {_seat_name(seat): 1 for seat in range(seats)}
        self._remote = ray.remote(num_cpus=0, max_restarts=0, concurrency_groups=groups)(
            SharedWorker
        )
        self._actor: Any = None
        self._free: list[int] = []

    def start(self) -> WorkerProcess:
        """A seat in the process that was started last, or in a new one."""
        if not self._free:
            self._actor = self._remote.remote(self._config, self._factory)
            self._free = [*range(self._seats)]
        return _Seat(self, self._actor, self._free.pop(0))

    def end(self, actor: Any) -> None:
        """Kills a process with all its workers."""
        if actor is self._actor:
            self._free = []
        ray.kill(actor, no_restart=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Seat:
    processes: SharedProcesses
    actor: Any
    seat: int

    def ready(self) -> Any:
        method = self.actor.ready.options(concurrency_group=_seat_name(self.seat))
        return method.remote(self.seat)

    def synthesise(
        self, specs: Sequence[SampleSpec], culprits: Mapping[str, str], *, alone: bool
    ) -> Any:
        # a seat has one thread, so its batches are alone in any case
        method = self.actor.synthesise.options(
            concurrency_group=_seat_name(self.seat), num_returns=2
        )
        return method.remote(self.seat, specs, culprits)

    def end(self) -> None:
        self.processes.end(self.actor)


class SharedWorker:
    """Several `PipelineWorker` in one process; an actor once `ray.remote` has wrapped it."""

    def __init__(self, config: RunConfig, factory: EngineFactory) -> None:
        """Loads nothing yet."""
        self._config, self._factory = config, factory
        self._workers: dict[int, PipelineWorker] = {}

    def ready(self, seat: int) -> WorkerReady:
        """Loads the pipeline of one seat."""
        self._workers[seat] = PipelineWorker(self._config, self._factory)
        ready = self._workers[seat].ready()
        return replace(ready, host=f"{ready.host}, seat {seat}")

    def synthesise(
        self, seat: int, specs: Sequence[SampleSpec], culprits: Mapping[str, str]
    ) -> tuple[SynthesisBatch, BatchStatus]:
        """The batch of one seat and its status."""
        return self._workers[seat].synthesise(specs, culprits)


def _seat_name(seat: int) -> str:
    return f"seat-{seat}"
