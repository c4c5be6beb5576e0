"""How much may be under way at once: as much as keeps every worker fed, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ovamgen.config import RunConfig

LEAST_OPEN_SHARDS = 8
LEAST_IN_FLIGHT_BYTES = 2 * 1024**3

ROUNDS = 3
"""Times the batches that fill all queues: on workers, being refined, waiting for their shard."""


STORE_SHARE = 0.5
"""A share of the object stores. Where they are full, Ray writes to disk what it must soon read
again, and everything waits for that; it begins at 80 %, and objects that nobody needs any more do
not go at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The caps of one run; what the configuration states stands, the rest follows the workers."""

    open_shards: int
    """Shards begun and not yet written."""
    stated_bytes: int | None
    queued_batches: int
    """Batches that fill the queues of all workers."""

    @classmethod
    def of(cls, config: RunConfig, workers: int) -> Caps:
        """The caps of a configuration on so many workers."""
        runtime, plan = config.runtime, config.plan
        queued = workers * runtime.queue_depth
        batches_in_shard = math.ceil(plan.shard_size / plan.batch_size)
        needed = math.ceil(ROUNDS * queued / batches_in_shard) + 1
        return cls(
            open_shards=runtime.open_shards or max(LEAST_OPEN_SHARDS, needed),
            stated_bytes=runtime.in_flight_bytes,
            queued_batches=queued,
        )

    def in_flight_bytes(self, batch_bytes: int, store_bytes: int) -> int:
        """Bytes of images, heatmaps and encoded samples that may wait for a later stage.

        Args:
            batch_bytes: of the largest batch so far.
            store_bytes: that the object stores of all nodes hold together.
        """
        if self.stated_bytes is not None:
            return self.stated_bytes
        wanted = max(LEAST_IN_FLIGHT_BYTES, ROUNDS * self.queued_batches * batch_bytes)
        return min(wanted, round(STORE_SHARE * store_bytes))
