"""What a run's live log means to somebody who reads it elsewhere, on a machine with another clock.

Durations come from the run's own monotonic clock. The wall clocks of two machines are compared only
to say how long ago something was heard, and believed only as far as they make sense.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ovamgen.console.progress import time_left
from ovamgen.status.logs import LiveProgress, OpenShardState

Activity = Literal["none", "loading", "running", "silent", "dead", "stopped", "failed", "complete"]
"""``silent``: holds the output and has written nothing for long; ``dead``: gone without a word."""

SILENT_AFTER = 6
"""So many intervals of its log without a word, and at least a minute."""

SLOW_SHARD = 3.0
"""Times the median of the shards last finished."""
SLOW_BATCH = 5.0
"""Times the median batch."""
SLOW_SECONDS = 60.0
"""Seconds below which nothing is called slow."""
FIRST_BATCH_SECONDS = 600.0
"""A worker that has been busy for so long is slow, where no batch was ever finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """Who runs, and what can be said of it."""

    activity: Activity
    process: str = ""
    heard_seconds_ago: float | None = None

    @property
    def is_current(self) -> bool:
        """The live log is of a run that goes on."""
        return self.activity in ("running", "silent")


def understand(
    holder: str | None,
    live: LiveProgress | None,
    now: datetime.datetime | None = None,
    *,
    is_complete: bool = False,
) -> Understood:
    """What the lock and the log say together.

    Args:
        holder: of the output's lock.
        live: what the latest run last wrote, if anything.
        now: with a time zone; the clock of this machine where not given.
        is_complete: nothing is left to do. A run that had nothing to load wrote no log, and how the
            one before it ended is of no interest any more.
    """
    if live is None:
        return Understood(activity="loading" if holder else "none", process=holder or "")
    if holder is not None and live.process != holder:
        # the log is of an earlier run
        return Understood(activity="loading", process=holder)
    heard = _seconds_since(live.written_at, now or datetime.datetime.now(datetime.UTC))
    if holder is None and is_complete:
        activity: Activity = "complete"
    elif live.state != "running":
        activity = live.state
    elif holder is None:
        activity = "dead"
    else:
        limit = max(60.0, SILENT_AFTER * live.every_seconds)
        activity = "silent" if heard is not None and heard > limit else "running"
    return Understood(activity=activity, process=live.process, heard_seconds_ago=heard)


def stragglers_of(live: LiveProgress, shards: Sequence[OpenShardState]) -> tuple[str, ...]:
    """What takes much longer than the rest, in words; the slowest first.

    Args:
        live: what the run last wrote.
        shards: of its open shards, those to look at.
    """
    usual = live.shard_seconds
    found = [
        (
            shard.seconds,
            f"shard {shard.shard} has been open for {_duration(shard.seconds)}, "
            f"{shard.seconds / usual:.0f} times the median ({shard.ended} of {shard.samples} "
            "samples)",
        )
        for shard in shards
        if usual and shard.seconds > max(SLOW_SECONDS, SLOW_SHARD * usual)
    ]
    batch = live.batch_seconds
    limit = FIRST_BATCH_SECONDS if batch is None else max(SLOW_SECONDS, SLOW_BATCH * batch)
    usually = "" if batch is None else f" (a batch takes {_duration(batch)})"
    found += [
        (
            worker.seconds,
            f"the worker in {worker.name} has not answered for {_duration(worker.seconds)}"
            f"{usually}",
        )
        for worker in live.workers
        if worker.batches and worker.seconds > limit
    ]
    return tuple(text for _, text in sorted(found, reverse=True))


def _seconds_since(written_at: str, now: datetime.datetime) -> float | None:
    """None where a clock was set back, or the text is no time."""
    try:
        then = datetime.datetime.fromisoformat(written_at)
    except ValueError:
        return None
    if then.tzinfo is None:
        return None
    seconds = (now - then).total_seconds()
    return seconds if seconds >= 0 else None


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else time_left(seconds).removesuffix(" left")
