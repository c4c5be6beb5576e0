"""Work on many shards, one in each process, that ends with its parent and survives a kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from ovamgen.errors import ShardError

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job, Callable[[], None]], Result]
"""Given a job and what to call after each sample; both travel to other processes."""

_AHEAD = 2
"""Jobs handed to each process: a plan of millions need not be in the queue at once."""
_POLL_SECONDS = 0.5


def run_in_processes(
    work: Work[Job, Result],
    jobs: Iterable[Job],
    processes: int,
    *,
    flag: str,
    after_samples: Callable[[int], object] = lambda count: None,
    grace_seconds: float = 0.0,
) -> Iterator[Result]:
    """The result of each job, as they are finished; in this process where one is asked for.

    Args:
        work: done with each job.
        jobs: taken as there is room.
        processes: jobs under way at once.
        flag: the option that says how many processes, for the message where one was killed.
        after_samples: told of the samples that were finished since the last call.
        grace_seconds: for a process to leave nothing unfinished behind when this one gives up.

    Raises:
        ShardError: the store cannot be read, or a process died.
    """
    if processes <= 1:

        def one_more() -> None:
            after_samples(1)

        for job in jobs:
            yield work(job, one_more)
        return
    # spawn: a fork would share the parent's threads and locks
    context = multiprocessing.get_context("spawn")
    count = context.Value("q", 0)
    # closing it tells them to end; a lock or an event would stay taken by one that was killed
    leash, hold = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(processes, context, _start, (work, count, leash, grace_seconds))
    waiting: set[Future[Result]] = set()
    left = iter(jobs)
    seen = 0
    try:
        while True:
            room = processes * _AHEAD - len(waiting)
            waiting |= {executor.submit(_do, job) for job in islice(left, room)}
            if not waiting:
                break
            finished, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            if count.value > seen:
                after_samples(count.value - seen)
                seen = count.value
            for future in finished:
                yield future.result()
    except (BrokenProcessPool, OSError):
        # an OSError where one was killed while another was being started
        raise ShardError(
            "a process that worked on shards was killed, perhaps for want of memory: run the same "
            f"command again with fewer {flag}"
        ) from None
    finally:
        # looked at between two samples, so that nothing goes on behind a stopped command
        hold.close()
        executor.shutdown(cancel_futures=True)
        leash.close()


class _StoppedError(Exception):
    """The parent has given up."""


_work: Work[Any, Any]
_after_sample: Callable[[], None]


def _start(work: Work[Any, Any], count: Any, leash: Connection, grace_seconds: float) -> None:
    """Sets a process up; Ctrl-C is the parent's to answer."""
    global _work, _after_sample
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    let_go = threading.Event()

    def after_sample() -> None:
        if let_go.is_set():
            raise _StoppedError
        with count.get_lock():
            count.value += 1

    _work, _after_sample = work, after_sample
    threading.Thread(target=_end_with, args=(leash, let_go, grace_seconds), daemon=True).start()


def _end_with(leash: Connection, let_go: threading.Event, grace_seconds: float) -> None:
    """Ends this process with its parent, also where the pool can no longer do so."""
    leash.poll(None)
    let_go.set()
    time.sleep(grace_seconds)
    os._exit(1)


def _do(job: Any) -> Any:
    return _work(job, _after_sample)
