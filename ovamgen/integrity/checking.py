"""The shards of an output, checked one in each process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection

from ovamgen.errors import ShardError
from ovamgen.integrity.shard_check import ShardJob, ShardResult, check_shard
from ovamgen.storage.store import Store

_AHEAD = 2
"""Shards handed to each process: a plan of millions need not be in the queue at once."""


def check_shards(store: Store, jobs: Iterable[ShardJob], processes: int) -> Iterator[ShardResult]:
    """The result of each shard, as they are found.

    Raises:
        ShardError: the store cannot be read, or a process died.
    """
    if processes <= 1:
        for job in jobs:
            yield check_shard(store, job)
        return
    # spawn: a fork would share the parent's threads and locks
    context = multiprocessing.get_context("spawn")
    # closing it tells them to end; a lock or an event would stay taken by one that was killed
    leash, hold = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(processes, context, _start, (store, leash))
    waiting: set[Future[ShardResult]] = set()
    left = iter(jobs)
    try:
        while True:
            room = processes * _AHEAD - len(waiting)
            waiting |= {executor.submit(_check, job) for job in islice(left, room)}
            if not waiting:
                return
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except (BrokenProcessPool, OSError):
        # an OSError where one was killed while another was being started
        hold.close()
        raise ShardError(
            "a process that checked shards was killed, perhaps for want of memory: run the same "
            "command again with fewer --jobs"
        ) from None
    except BaseException:
        hold.close()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        hold.close()
        leash.close()


_store: Store


def _start(store: Store, leash: Connection) -> None:
    """Sets a process up; Ctrl-C is the parent's to answer."""
    global _store
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()
    _store = store


def _end_with(leash: Connection) -> None:
    """A tar may take minutes, and the parent has given up; nothing is held that could be lost."""
    leash.poll(None)
    os._exit(1)


def _check(job: ShardJob) -> ShardResult:
    return check_shard(_store, job)
