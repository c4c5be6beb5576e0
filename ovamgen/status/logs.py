"""The files under ``logs/`` of an output: what its runs say of themselves, for people alone.

``logs/progress.json`` is what the latest run was doing when it last wrote it; one
``logs/time-000001.json`` for each process of a run says how long its stages took. Clocks are in
them, so they are no part of the corpus: no digest, index or shard knows them.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovamgen.errors import ShardError
from ovamgen.run.timing import WorkStage
from ovamgen.shards.output_files import PROGRESS_NAME, TIMES_PREFIX
from ovamgen.storage.interface import Store
from ovamgen.storage.store import ObjectStore

MAX_BYTES = 4_000_000
"""No file of ours is larger; a larger one is not read."""

PATIENCE_SECONDS = 20.0

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
RunState = Literal["running", "complete", "stopped", "failed"]

_Log = TypeVar("_Log", bound="_LogFile")


class _LogFile(BaseModel):
    """What a later version adds is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    process: str
    """As the store names the holder of its lock."""
    state: RunState

    def to_bytes(self) -> bytes:
        """As JSON."""
        return self.model_dump_json(indent=1).encode() + b"\n"


class ProcessTimes(_LogFile):
    """What one process of a run made, and the seconds that its workers and tasks spent on it."""

    began_at: str
    """UTC."""
    runner: str
    device: str
    workers: Count
    """Pipelines that were ready, at most at once."""
    images: Count
    failed: Count
    shards: Count
    wall_seconds: Seconds
    """Since the run began, loading included."""
    seconds: dict[WorkStage, Seconds]
    """Summed over all processes; work that was lost and done again counts each time."""


class OpenShardState(BaseModel):
    """A shard that is begun and not yet written."""

    shard: Count
    seconds: Seconds
    """Since it was begun."""
    samples: Count
    ended: Count
    """Samples of it that are encoded or have failed."""


class WorkerState(BaseModel):
    """A worker whose pipeline is loaded."""

    name: str
    batches: Count
    """Handed to it and not yet answered."""
    seconds: Seconds
    """Since it last answered, or was given work when it had none."""


class LiveProgress(_LogFile):
    """What a run is doing; all durations are by its own monotonic clock."""

    error: str = ""
    """Why it stopped or failed."""
    sequence: Count
    """Grows with each writing."""
    written_at: str
    """UTC."""
    every_seconds: Seconds
    wall_seconds: Seconds
    samples_planned: Count
    samples_before: Count
    """Made or failed in earlier runs."""
    images: Count
    failed: Count
    shards_planned: Count
    shards_done: Count
    images_per_second: Seconds
    """Over the last minutes."""
    seconds_left: Seconds | None
    """None while nothing is made."""
    workers_wanted: Count
    workers: list[WorkerState]
    worker_restarts: Count
    shard_restarts: Count
    in_flight_bytes: Count
    shard_seconds: Seconds | None
    """Median from begin to end, of the shards last finished."""
    batch_seconds: Seconds | None
    """Median of the batches last made."""
    shards_open: list[OpenShardState]


def impatient(store: Store) -> Store:
    """The same place, given up after seconds: a run does not wait for its log."""
    if isinstance(store, ObjectStore):
        return ObjectStore(store.url, patience_seconds=PATIENCE_SECONDS)
    return store


def read_progress(store: Store) -> LiveProgress | None:
    """What the latest run last wrote; None where there is nothing, or nothing legible."""
    return _read(store, PROGRESS_NAME, LiveProgress)


def read_times(store: Store) -> tuple[list[ProcessTimes], int]:
    """The times of all processes of the runs, oldest first, and how many files are illegible."""
    found = [_read(store, name, ProcessTimes) for name in store.list(TIMES_PREFIX)]
    legible = [times for times in found if times is not None]
    return legible, len(found) - len(legible)


def _read(store: Store, name: str, kind: type[_Log]) -> _Log | None:
    try:
        return kind.model_validate_json(store.read(name, MAX_BYTES))
    except (ValidationError, ShardError):
        # not there, or written by something else: it is only a log
        return None
