"""Three small shards, always the same, for whoever publishes them: also for a process that dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache

from ovamgen import fault_points
from ovamgen.records import EncodedSample, ShardRecord
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import Store, open_store
from tests.shards.samples import FINGERPRINT, make_failure, make_samples

SPLIT = "train"
INDICES = (0, 1, 2)


@lru_cache
def samples(index: int, height: int = 16) -> tuple[EncodedSample, ...]:
    """Those of a shard; another height makes other samples of the same keys."""
    return tuple(make_samples(2, shard=index, height=height, width=16))


def publish(store: Store, index: int, height: int = 16) -> ShardRecord:
    """The record of the shard, published; the last of its samples has failed."""
    return publish_shard(
        store,
        shard_index=index,
        split=SPLIT,
        samples=samples(index, height),
        failures=[make_failure(2, shard=index)],
        fingerprint=FINGERPRINT,
    )


def publish_with(url: str, index: int, faults: str, variables: Mapping[str, str]) -> None:
    """Publishes in a process of its own, in which something goes wrong."""
    os.environ.update(variables)
    fault_points.reach = fault_points.reaching(faults)
    publish(open_store(url), index)
    sys.exit(0)
