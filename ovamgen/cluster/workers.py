"""What runs in Ray's processes: the worker that holds a pipeline, and the tasks of the CPU side.

Each is a thin shell around a function of `ovamgen.run.shard`; neither scheduling nor Ray itself is
known here: whoever submits them wraps them, so that they travel by name and not by value.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

from ovamgen import fault_points
from ovamgen.config import RunConfig
from ovamgen.records import (
    EncodedSample,
    ModelInfo,
    SampleFailure,
    SampleSpec,
    ShardRecord,
    ShardTask,
    SynthesisBatch,
)
from ovamgen.run.bad_samples import EngineFactory, synthesise_surviving
from ovamgen.run.shard import SampleContext, commit, load_engine_factory, refine
from ovamgen.run.timing import Seconds, StageClock
from ovamgen.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady:
    """What a worker says once its pipeline is loaded."""

    info: ModelInfo
    tokens_digest: str
    process_id: int
    host: str
    seconds: Seconds = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call the worker."""
        return f"process {self.process_id} on {self.host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """The small half of a batch's result: the pixels stay in the object store."""

    keys: tuple[str, ...]
    """Keys of the images in the payload, in order."""
    failures: tuple[SampleFailure, ...]
    nbytes: int
    seconds: Seconds = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineStatus:
    """The small half of a refine task's result."""

    made: int
    failures: tuple[SampleFailure, ...]
    nbytes: int
    seconds: Seconds = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStatus:
    """A write task's result."""

    record: ShardRecord
    seconds: Seconds = field(default_factory=dict)


class Turns:
    """Lets batches in as they were given, whichever thread comes first, and some of them alone."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._next = 0
        self._inside = 0
        self._closed = False

    @contextmanager
    def take(self, turn: int, *, alone: bool) -> Iterator[None]:
        """The block runs once all earlier turns have begun; alone, once they have ended as well."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_free(turn, alone))
            self._next, self._closed = turn + 1, alone
            self._inside += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._closed = False
                self._changed.notify_all()

    def _is_free(self, turn: int, alone: bool) -> bool:
        return self._next == turn and not self._closed and not (alone and self._inside)


class PipelineWorker:
    """One diffusion pipeline in a process of its own; an actor once `ray.remote` has wrapped it.

    An actor may have two threads: while one waits for a batch to leave the device and hands it
    over, the other draws the next.
    """

    def __init__(self, config: RunConfig, factory: EngineFactory | None) -> None:
        """Loads nothing yet: an error while loading is to come back from `ready`, by name."""
        self._config = config
        self._factory = factory
        self._turns = Turns()

    def ready(self) -> WorkerReady:
        """Loads the pipeline.

        Raises:
            ConfigError: the model, the tokens or the device are not usable on this node.
        """
        clock = StageClock()
        with clock.measure("loading"):
            fault_points.reach("worker.loading")
            self._engine = (self._factory or load_engine_factory())(self._config)
        return WorkerReady(
            info=self._engine.info,
            tokens_digest=self._engine.tokens_digest,
            process_id=os.getpid(),
            host=socket.gethostname(),
            seconds=clock.seconds,
        )

    def synthesise_in_turn(
        self, specs: Sequence[SampleSpec], culprits: Mapping[str, str], turn: int, alone: bool
    ) -> tuple[SynthesisBatch, BatchStatus]:
        """The batch and its status, made in its turn and, where asked, with no other beside it."""
        with self._turns.take(turn, alone=alone):
            return self.synthesise(specs, culprits)

    def synthesise(
        self, specs: Sequence[SampleSpec], culprits: Mapping[str, str]
    ) -> tuple[SynthesisBatch, BatchStatus]:
        """The batch and its status.

        Args:
            specs: the batch as it was planned.
            culprits: reason by key, of samples that have taken workers down and are left out.
        """
        clock = StageClock()
        with clock.measure("synthesis"):
            batch = synthesise_surviving(self._engine, specs, culprits)
        status = BatchStatus(
            keys=tuple(spec.key for spec in batch.specs),
            failures=batch.failures,
            nbytes=batch.nbytes,
            seconds=clock.seconds,
        )
        return batch, status


def refine_images(
    batch: SynthesisBatch, start: int, stop: int, context: SampleContext
) -> tuple[list[EncodedSample | SampleFailure], RefineStatus]:
    """Label maps and encoded samples of some images of a batch."""
    clock = StageClock()
    results = refine(batch, start, stop, context, clock)
    made = [result for result in results if isinstance(result, EncodedSample)]
    status = RefineStatus(
        made=len(made),
        failures=tuple(result for result in results if isinstance(result, SampleFailure)),
        nbytes=sum(sample.nbytes for sample in made),
        seconds=clock.seconds,
    )
    return results, status


def write_shard(
    task: ShardTask,
    failures: tuple[SampleFailure, ...],
    context: SampleContext,
    store: Store,
    *refined: list[EncodedSample | SampleFailure],
) -> WriteStatus:
    """The record of the shard, published."""
    clock = StageClock()
    results: list[EncodedSample | SampleFailure] = [*failures]
    for chunk in refined:
        results += chunk
    with clock.measure("writing"):
        record = commit(task, results, context, store)
    return WriteStatus(record=record, seconds=clock.seconds)
