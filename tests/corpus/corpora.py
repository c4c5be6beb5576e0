"""Corpora for tests of selecting and exporting: many small samples whose metadata is known."""

import dataclasses

import numpy as np

from ovamgen.config import ShardConfig
from ovamgen.shards.manifest import write_indexes
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import LocalStore
from tests.shards.samples import CLASSES, FINGERPRINT, make_failure, make_sample, make_spec

HEIGHT, WIDTH = 16, 24


def varied_samples(count, *, shard=0, seed=0):
    """Samples of one or two classes with random areas and scores; some unsafe, some of one grey."""
    rng = np.random.default_rng([seed, shard])
    for index in range(count):
        number = int(rng.integers(len(CLASSES)))
        targets = [CLASSES[number]]
        if rng.random() < 0.2:
            targets.append(CLASSES[(number + 1) % len(CLASSES)])
        spec = make_spec(index, shard=shard, targets=targets)
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        kind = rng.random()
        if kind < 0.07:
            image[:] = int(rng.integers(256))
        elif kind < 0.14:
            image[:] = (10, 20, 200)
        yield make_sample(
            spec,
            height=HEIGHT,
            width=WIDTH,
            image=image,
            areas=rng.beta(2, 4, len(targets)).tolist(),
            scores=rng.uniform(0.5, 1, len(targets)).tolist(),
            unsafe=bool(rng.random() < 0.1),
        )


def plain_samples(count, *, shard=0, heatmaps=False):
    """Samples of drawn discs; every label of a mask is 0, its class or 255."""
    settings = ShardConfig(heatmaps=heatmaps)
    for index in range(count):
        spec = make_spec(index, shard=shard)
        yield make_sample(spec, settings=settings, height=HEIGHT, width=WIDTH)


def quick_samples(count, *, shard=0):
    """Copies of five samples under keys of their own: a large corpus in no time."""
    first = list(plain_samples(len(CLASSES)))
    for index in range(count):
        sample = first[index % len(first)]
        key = make_spec(index, shard=shard).key
        yield dataclasses.replace(sample, key=key, metadata={**sample.metadata, "key": key})


def write_corpus(root, sizes, samples=varied_samples, *, failures=1, finished=True, **values):
    """A run's folder with shards of these sizes; each has some failures more."""
    store = LocalStore(root)
    records = [
        publish_shard(
            store,
            shard_index=shard,
            split="train",
            samples=samples(size, shard=shard, **values),
            failures=[make_failure(size + number, shard=shard) for number in range(failures)],
            fingerprint=FINGERPRINT,
        )
        for shard, size in enumerate(sizes)
    ]
    if finished:
        info = {"model": {"id": "mini", "trained": False}, "fingerprint": FINGERPRINT}
        write_indexes(store, records, info)
    return store, records
