"""What happens after a death: which batches are given out again, and when the run gives up.

A worker or a node may die from outside, or of a sample. A batch whose workers keep dying is probed
for the samples that do it, and a shard whose images left with their node begins again; both only so
often. Which worker runs what is not known here.
"""

from __future__ import annotations

from collections import Counter

from ray.exceptions import RayError

from ovamgen.cluster.open_shards import OpenBatch, OpenShard
from ovamgen.console.progress import RunProgress
from ovamgen.errors import ClusterError
from ovamgen.records import WORKER_DIED
from ovamgen.run.bad_samples import one_line
from ovamgen.run.run import Run

SHARD_RESTARTS = 5
"""Times that one shard may start again after a node took its images with it."""

PROBINGS = 3
"""Times that a batch which takes workers down is probed for the samples that do it."""


class Recovery:
    """The deaths of one run, counted."""

    def __init__(self, run: Run, progress: RunProgress) -> None:
        self._attempts = run.config.runtime.batch_attempts
        self._journal = run.journal
        self._progress = progress
        self._restarts: Counter[int] = Counter()

    def after_death(self, batch: OpenBatch) -> list[OpenBatch]:
        """What to give out next for a batch, or a probe, that took its worker down.

        Raises:
            ClusterError: it does so every time, and no sample of it does so alone.
        """
        enough = batch.deaths >= self._attempts
        if batch.probe_of is not None:
            if len(batch.specs) > 1:
                # replaced by its own halves
                return [*batch.probes(), *batch.probe_ended()]
            if not enough:
                return [batch]
            reason = f"{WORKER_DIED} {batch.deaths} times while making this sample"
            batch.probe_of.culprits[batch.specs[0].key] = reason
            return batch.probe_ended()
        if not enough:
            return [batch]
        if batch.probed == PROBINGS:
            raise ClusterError(
                f"a batch of {len(batch.specs)} samples of shard {batch.shard.task.shard_index} "
                f"takes every worker down and no sample of it does so alone: it may need more "
                "memory than a worker has, so make plan.batch_size smaller"
            )
        self._progress.say(
            f"a batch of {len(batch.specs)} took {batch.deaths} workers down: looking for the "
            "sample that does it"
        )
        batch.probed += 1
        batch.deaths = 0
        return batch.probes()

    def after_loss(self, shard: OpenShard, error: RayError) -> list[OpenBatch]:
        """All batches of a shard whose images or samples left with their node, to begin it again.

        Raises:
            ClusterError: it was lost too often.
        """
        index = shard.task.shard_index
        self._restarts[index] += 1
        if self._restarts[index] > SHARD_RESTARTS:
            raise ClusterError(
                f"shard {index} was lost {self._restarts[index]} times, the last time by "
                f"{one_line(error)}: look for nodes that leave or run out of memory"
            )
        self._progress.say(f"shard {index} lost its images ({type(error).__name__}): again")
        self._progress.count(images=-shard.made, failed=-shard.failed)
        self._journal.shard_lost(index, shard.made, shard.failed)
        return shard.begin()
