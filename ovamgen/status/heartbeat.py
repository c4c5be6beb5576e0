"""A run's journal on disk or in the bucket, written every few seconds beside the work.

A log that cannot be written is no reason to lose a run: it is said once, and the run goes on.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ovamgen.errors import OvamgenError
from ovamgen.run.bad_samples import one_line
from ovamgen.run.drain import Interrupted
from ovamgen.run.run import Run
from ovamgen.shards.output_files import PROGRESS_NAME, TIMES_PREFIX, times_name
from ovamgen.status.logs import (
    LiveProgress,
    OpenShardState,
    ProcessTimes,
    RunState,
    WorkerState,
    impatient,
)

EVERY_SECONDS = 10.0

log = logging.getLogger(__name__)


@contextmanager
def keep_logs(run: Run, every_seconds: float | None = None) -> Iterator[None]:
    """Writes ``logs/`` while the block lasts, and at its end how that was.

    Nothing is written before a pipeline is loaded: a run that fails until then leaves no trace.
    """
    heartbeat = _Heartbeat(run, EVERY_SECONDS if every_seconds is None else every_seconds)
    thread = threading.Thread(target=heartbeat.beat, name="ovamgen-heartbeat", daemon=True)
    thread.start()
    state: RunState = "failed"
    error = ""
    try:
        yield
        state = "stopped" if run.shards_left else "complete"
    except Interrupted as stop:
        state, error = "stopped", one_line(stop)
        raise
    except BaseException as problem:
        error = one_line(problem)
        raise
    finally:
        heartbeat.stop.set()
        thread.join()
        heartbeat.write(state, error)


class _Heartbeat:
    def __init__(self, run: Run, every_seconds: float) -> None:
        self.stop = threading.Event()
        self._run = run
        self._every = every_seconds
        # with its lock held, the store names this very process
        self._process = run.store.holder() or "unknown"
        self._store = impatient(run.store)
        self._began_at = _now()
        self._before = sum(r.samples + r.failed for r in run.records.values())
        self._shards_before = len(run.records)
        self._shards_planned = self._shards_before + run.shards_left
        self._samples_planned = run.total_samples
        self._name = ""
        self._sequence = 0
        self._is_broken = False

    def beat(self) -> None:
        """Until it is told to stop."""
        while not self.stop.wait(self._every):
            self.write("running")

    def write(self, state: RunState, error: str = "") -> None:
        """Both files, if there is anything to tell."""
        if not self._run.journal.is_loaded:
            return
        try:
            store = self._store
            if not self._name:
                # the lock is held: nobody else takes the same number
                self._name = times_name(_last_number(store.list(TIMES_PREFIX)) + 1)
            self._sequence += 1
            store.put(self._name, self._times(state).to_bytes())
            store.put(PROGRESS_NAME, self._progress(state, error).to_bytes())
        except OvamgenError as problem:
            if not self._is_broken:
                log.warning("the run goes on, but its logs cannot be written: %s", problem)
            self._is_broken = True

    def _times(self, state: RunState) -> ProcessTimes:
        journal, totals = self._run.journal, self._run.journal.totals()
        return ProcessTimes(
            process=self._process,
            state=state,
            began_at=self._began_at,
            runner=self._run.config.runtime.runner,
            device=self._run.config.model.device,
            workers=journal.most_workers,
            images=max(0, totals.made),
            failed=max(0, totals.failed),
            shards=totals.shards,
            wall_seconds=_seconds(time.monotonic() - journal.began),
            seconds={stage: _seconds(value) for stage, value in totals.seconds.items()},
        )

    def _progress(self, state: RunState, error: str) -> LiveProgress:
        journal, totals = self._run.journal, self._run.journal.totals()
        work, rate = journal.open_work(), journal.rate()
        ended = max(0, totals.made + totals.failed)
        left = self._samples_planned - self._before - ended
        speed = ended / max(totals.made, 1) * rate
        return LiveProgress(
            process=self._process,
            state=state,
            error=error,
            sequence=self._sequence,
            written_at=_now(),
            every_seconds=self._every,
            wall_seconds=_seconds(time.monotonic() - journal.began),
            samples_planned=self._samples_planned,
            samples_before=self._before,
            images=max(0, totals.made),
            failed=max(0, totals.failed),
            shards_planned=self._shards_planned,
            shards_done=self._shards_before + totals.shards,
            images_per_second=round(rate, 4),
            seconds_left=_seconds(left / speed) if speed > 0 else None,
            workers_wanted=max(journal.workers_wanted, len(work.workers)),
            workers=[
                WorkerState(name=name, seconds=_seconds(seconds), batches=batches)
                for name, seconds, batches in work.workers
            ],
            worker_restarts=totals.worker_restarts,
            shard_restarts=totals.shard_restarts,
            in_flight_bytes=totals.in_flight_bytes,
            shard_seconds=None if work.shard_seconds is None else _seconds(work.shard_seconds),
            batch_seconds=None if work.batch_seconds is None else _seconds(work.batch_seconds),
            shards_open=[
                OpenShardState(
                    shard=index,
                    seconds=_seconds(seconds),
                    samples=samples,
                    ended=min(ended, samples),
                )
                for index, seconds, samples, ended in work.shards
            ],
        )


def _last_number(names: list[str]) -> int:
    digits = [name.removeprefix(TIMES_PREFIX).removesuffix(".json") for name in names]
    return max((int(text) for text in digits if text.isdecimal() and len(text) < 10), default=0)


def _seconds(value: float) -> float:
    return round(max(0.0, value), 3)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
