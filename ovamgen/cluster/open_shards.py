"""The driver's books: what is under way, what a shard waits for, how much there may be at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from ovamgen.config import RunConfig
from ovamgen.records import SampleFailure, SampleSpec, ShardTask

LEAST_OPEN_SHARDS = 8
LEAST_IN_FLIGHT_BYTES = 2 * 1024**3

ROUNDS = 3
"""Times the batches that fill all queues: on workers, being refined, waiting for their shard."""


STORE_SHARE = 0.5
"""A share of the object stores. Where they are full, Ray writes to disk what it must soon read
again, and everything waits for that; it begins at 80 %, and objects that nobody needs any more do
not go at once."""


@dataclass(eq=False, kw_only=True)
class OpenShard:
    """A shard that is begun and not yet written."""

    task: ShardTask
    waiting: int = 0
    """Batches and slices of images that have not ended."""
    refined: list[Any] = field(default_factory=list)
    """References to lists of encoded samples; their order does not matter."""
    failures: list[SampleFailure] = field(default_factory=list)
    """Samples that failed before they reached a refine task, or took its process down."""
    made: int = 0
    failed: int = 0
    nbytes: int = 0
    """Encoded bytes that wait for the shard to be complete."""
    generation: int = 0
    """Raised when lost objects make the shard start again; older work is stale."""

    def begin(self) -> list[OpenBatch]:
        """The shard's batches as the plan cuts them, with nothing made yet."""
        self.waiting = len(self.task.batches)
        self.refined, self.failures = [], []
        self.made = self.failed = self.nbytes = 0
        self.generation += 1
        return [
            OpenBatch(shard=self, specs=specs, generation=self.generation)
            for specs in self.task.batches
        ]


@dataclass(eq=False, kw_only=True)
class OpenBatch:
    """A batch on its way, or a probe of some samples of a batch that takes its workers down.

    Probes find the culprits; what they draw is thrown away, and the batch is drawn again at its
    planned size without the culprits. A worker that was killed from outside, even repeatedly, so
    changes no bit of any sample.
    """

    shard: OpenShard
    specs: tuple[SampleSpec, ...]
    generation: int
    deaths: int = 0
    """Workers that died while they ran it, since its last probing."""
    culprits: dict[str, str] = field(default_factory=dict)
    """Reason by key, of samples that die alone."""
    probed: int = 0
    """Times that it was probed."""
    probes_open: int = 0
    probe_of: OpenBatch | None = None
    unrefined: int = 0
    """Images of it that no refine task has dealt with yet."""
    failures: list[SampleFailure] = field(default_factory=list)
    """Samples of it that failed so far, in any stage."""

    @property
    def stale(self) -> bool:
        """The shard has started again since this batch was given out."""
        return self.generation != self.shard.generation

    @property
    def suspect(self) -> bool:
        """It may take its worker down, so it is drawn while no other batch is there to blame."""
        return self.deaths > 0 or self.probed > 0 or self.probe_of is not None

    def probes(self) -> list[OpenBatch]:
        """Two probes, each of half of the samples; one where there is only one sample."""
        whole = self.probe_of or self
        middle = len(self.specs) // 2
        halves = [half for half in (self.specs[:middle], self.specs[middle:]) if half]
        whole.probes_open += len(halves)
        return [
            OpenBatch(shard=self.shard, specs=half, generation=self.generation, probe_of=whole)
            for half in halves
        ]

    def probe_ended(self) -> list[OpenBatch]:
        """The batch to draw again once its last probe has ended, else nothing."""
        whole = self.probe_of or self
        whole.probes_open -= 1
        return [] if whole.probes_open else [whole]


@dataclass(eq=False, kw_only=True)
class OpenImages:
    """Some images of a batch's payload, with a refine task."""

    batch: OpenBatch
    payload: Any
    """Reference to the drawn batch; held until its last image is refined."""
    start: int
    keys: tuple[str, ...]
    bytes_each: int

    @property
    def nbytes(self) -> int:
        """Bytes of the payload that these images stand for."""
        return self.bytes_each * len(self.keys)

    def slices(self, size: int) -> list[OpenImages]:
        """The same images in slices of at most ``size``."""
        return [
            replace(self, start=self.start + first, keys=self.keys[first : first + size])
            for first in range(0, len(self.keys), size)
        ]


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
