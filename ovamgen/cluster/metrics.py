"""What an operator watches, through Ray's metrics agent (Prometheus).

`METRICS` is the whole list; ``deploy/grafana`` draws it. Ray puts ``ray_`` before the names.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from ray.util.metrics import Counter, Gauge

from ovamgen.run.journal import RunJournal

FOLLOW_SECONDS = 1.0
"""Ray sends its metrics every few seconds: there is no use in telling it more often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """A metric as it is registered."""

    kind: Literal["counter", "gauge"]
    description: str
    tags: tuple[str, ...] = ()


METRICS = {
    "ovamgen_samples_total": MetricSpec(
        kind="counter", description="Samples that ended", tags=("status",)
    ),
    "ovamgen_failures_total": MetricSpec(
        kind="counter",
        description="Samples that failed, by stage and type of error",
        tags=("stage", "kind"),
    ),
    "ovamgen_shards_total": MetricSpec(kind="counter", description="Shards published"),
    "ovamgen_stage_seconds_total": MetricSpec(
        kind="counter", description="Seconds spent, summed over all processes", tags=("stage",)
    ),
    "ovamgen_restarts_total": MetricSpec(
        kind="counter",
        description="Workers that were replaced, shards that began again",
        tags=("what",),
    ),
    "ovamgen_workers_ready": MetricSpec(kind="gauge", description="Workers with a loaded pipeline"),
    "ovamgen_in_flight_bytes": MetricSpec(
        kind="gauge", description="Bytes that wait for a later stage"
    ),
    "ovamgen_open_shards": MetricSpec(
        kind="gauge", description="Shards begun and not yet published"
    ),
    "ovamgen_oldest_open_shard_seconds": MetricSpec(
        kind="gauge", description="How long the oldest open shard has been open"
    ),
}


class RunMetrics:
    """The metrics of one run, told from its journal."""

    def __init__(self) -> None:
        """Registers the metrics with the Ray session that is connected."""
        kinds = {"counter": Counter, "gauge": Gauge}
        self._metrics: dict[str, Any] = {
            name: kinds[spec.kind](name, description=spec.description, tag_keys=spec.tags)
            for name, spec in METRICS.items()
        }
        self._told: dict[tuple[str, tuple[str, ...]], float] = {}
        self._next = 0.0

    def follow(self, journal: RunJournal, *, at_once: bool = False) -> None:
        """Tells what has changed; at most once a second, unless ``at_once``."""
        now = time.monotonic()
        if now < self._next and not at_once:
            return
        self._next = now + FOLLOW_SECONDS
        totals, work = journal.totals(), journal.open_work()
        self._count("ovamgen_samples_total", totals.made, "made")
        self._count("ovamgen_samples_total", totals.failed, "failed")
        for (stage, kind), failed in totals.failures.items():
            self._count("ovamgen_failures_total", failed, stage, kind)
        self._count("ovamgen_shards_total", totals.shards)
        for stage, seconds in totals.seconds.items():
            self._count("ovamgen_stage_seconds_total", seconds, stage)
        self._count("ovamgen_restarts_total", totals.worker_restarts, "worker")
        self._count("ovamgen_restarts_total", totals.shard_restarts, "shard")
        self._metrics["ovamgen_workers_ready"].set(totals.workers_ready)
        self._metrics["ovamgen_in_flight_bytes"].set(totals.in_flight_bytes)
        self._metrics["ovamgen_open_shards"].set(len(work.shards))
        oldest = work.shards[0][1] if work.shards else 0.0
        self._metrics["ovamgen_oldest_open_shard_seconds"].set(oldest)

    def _count(self, name: str, value: int | float, *tags: str) -> None:
        """Raise the counter to the value; one that falls, as lost samples do, waits for it."""
        grown = value - self._told.get((name, tags), 0)
        if grown > 0:
            names = METRICS[name].tags
            self._metrics[name].inc(grown, tags=dict(zip(names, tags, strict=True)))
            self._told[name, tags] = value
