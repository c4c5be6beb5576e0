"""Counters and gauges of a run, through Ray's metrics agent (Prometheus)."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge


class RunMetrics:
    """What an operator watches; names begin with ``ovamgen_``."""

    def __init__(self) -> None:
        """Registers the metrics with the Ray session that is connected."""
        self._samples = Counter(
            "ovamgen_samples_total", description="Samples that ended", tag_keys=("status",)
        )
        self._shards = Counter("ovamgen_shards_total", description="Shards published")
        self._workers = Gauge("ovamgen_workers_ready", description="Workers with a loaded pipeline")
        self._bytes = Gauge("ovamgen_in_flight_bytes", description="Bytes that wait for a stage")

    def samples(self, *, made: int = 0, failed: int = 0) -> None:
        """Count samples that were made or that failed."""
        if made:
            self._samples.inc(made, tags={"status": "made"})
        if failed:
            self._samples.inc(failed, tags={"status": "failed"})

    def shard(self) -> None:
        """Count a published shard."""
        self._shards.inc()

    def state(self, workers_ready: int, in_flight_bytes: int) -> None:
        """Set the gauges."""
        self._workers.set(workers_ready)
        self._bytes.set(in_flight_bytes)
