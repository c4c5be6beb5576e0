"""The CPU side of a run: images become encoded samples in refine tasks, samples become shards.

Which batch runs on which worker is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ovamgen.cluster.handlers import Handlers
from ovamgen.cluster.open_shards import OpenBatch, OpenImages, OpenShard
from ovamgen.cluster.pool import cause_of
from ovamgen.cluster.workers import (
    BatchStatus,
    RefineStatus,
    WriteStatus,
    refine_images,
    write_shard,
)
from ovamgen.console.progress import RunProgress
from ovamgen.records import EncodedSample, SampleFailure, ShardRecord
from ovamgen.run.bad_samples import one_line
from ovamgen.run.run import Run
from ovamgen.run.shard import SampleContext
from ovamgen.storage.store import LocalStore

Refine = Callable[..., tuple[list[EncodedSample | SampleFailure], RefineStatus]]
"""`refine_images`, or what stands in for it: the same arguments, the same results."""


class Finishing:
    """Refine and write tasks of the open shards; their handlers go into the driver's table."""

    def __init__(
        self,
        run: Run,
        progress: RunProgress,
        handlers: Handlers,
        on_lost: Callable[[OpenShard, RayError], None],
        on_written: Callable[[OpenShard, ShardRecord], None],
        refine: Refine = refine_images,
    ) -> None:
        """``on_lost`` is told of a shard whose images or samples left with their node."""
        self._run = run
        self._progress = progress
        self._handlers = handlers
        self.on_lost = on_lost
        self._on_written = on_written
        self._early_stop = run.early_stop()
        self._context: Any = None
        self.payload_bytes = 0
        """Bytes of images and heatmaps that wait for their refine task."""
        options: dict[str, Any] = {"num_cpus": 1, "max_retries": 3}
        self._refine_remote = ray.remote(**options, num_returns=2)(refine)
        if isinstance(run.store, LocalStore):
            # a folder of this machine is no folder of the others
            here = ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=False)
        self._write_remote = ray.remote(**options)(write_shard)

    def set_context(self, context: SampleContext) -> None:
        """Known once the first pipeline is loaded."""
        if self._context is None:
            self._context = ray.put(context)

    def take(self, batch: OpenBatch, payload: Any, status: BatchStatus) -> None:
        """Refine the images of a batch that a worker has made."""
        batch.unrefined = len(status.keys)
        self._count(batch, failures=status.failures)
        batch.shard.failures += status.failures
        if status.keys:
            images = OpenImages(
                batch=batch,
                payload=payload,
                start=0,
                keys=status.keys,
                bytes_each=status.nbytes // len(status.keys),
            )
            self._refine(images.slices(self._run.config.runtime.refine_images))
        self.ended(batch.shard)

    def ended(self, shard: OpenShard) -> None:
        """One thing that the shard waited for has ended; the last one begins the writing."""
        shard.waiting -= 1
        if shard.waiting:
            return
        record = self._write_remote.remote(
            shard.task, tuple(shard.failures), self._context, self._run.store, *shard.refined
        )
        self._handlers[record] = partial(self.written, shard, record)

    def _refine(self, slices: list[OpenImages]) -> None:
        for images in slices:
            images.batch.shard.waiting += 1
            self.payload_bytes += images.nbytes
            stop = images.start + len(images.keys)
            result, status = self._refine_remote.remote(
                images.payload, images.start, stop, self._context
            )
            self._handlers[status] = partial(self.refined, images, result, status)

    def refined(self, images: OpenImages, result: Any, status_ref: Any) -> None:
        """A refine task has ended, well or not."""
        self.payload_bytes -= images.nbytes
        shard = images.batch.shard
        if images.batch.stale:
            return
        try:
            status: RefineStatus = ray.get(status_ref)
        except RayTaskError as error:
            raise cause_of(error) from None
        except WorkerCrashedError as error:
            # the process died more often than Ray retries: find the image that takes it down
            if len(images.keys) > 1:
                self._refine(images.slices((len(images.keys) + 1) // 2))
            else:
                (key,) = images.keys
                failure = SampleFailure(key=key, stage="masks", reason=one_line(error))
                shard.failures.append(failure)
                self._count(images.batch, images=1, failures=[failure])
            self.ended(shard)
            return
        except RayError as error:
            self.on_lost(shard, error)
            return
        self._run.journal.spent(status.seconds)
        shard.refined.append(result)
        shard.nbytes += status.nbytes
        self._count(
            images.batch, images=len(images.keys), made=status.made, failures=status.failures
        )
        self.ended(shard)

    def written(self, shard: OpenShard, record_ref: Any) -> None:
        """A write task has ended, well or not."""
        try:
            status: WriteStatus = ray.get(record_ref)
        except RayTaskError as error:
            raise cause_of(error) from None
        except RayError as error:
            self.on_lost(shard, error)
            return
        self._run.journal.spent(status.seconds)
        self._on_written(shard, status.record)

    def _count(
        self,
        batch: OpenBatch,
        *,
        images: int = 0,
        made: int = 0,
        failures: Sequence[SampleFailure] = (),
    ) -> None:
        """Takes note of samples that have ended; ``images`` of them came from a refine task."""
        shard = batch.shard
        batch.unrefined -= images
        batch.failures += failures
        # whether a batch failed whole is known with its last image: order must not decide
        self._early_stop.count(made, batch.failures if not batch.unrefined else ())
        shard.made += made
        shard.failed += len(failures)
        self._progress.count(images=made, failed=len(failures))
        self._run.journal.ended(shard.task.shard_index, made, failures)
