"""Corpora for tests of selecting and exporting: many small samples whose metadata is known."""

import dataclasses

import numpy as np

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import as_saved
from ovamgen.config import ShardConfig
from ovamgen.shards.codec import METADATA, encode_sample
from ovamgen.shards.manifest import write_indexes
from ovamgen.shards.schema import to_json
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import LocalStore
from tests.shards.samples import (
    CLASSES,
    FINGERPRINT,
    PROVENANCE,
    make_failure,
    make_sample,
    make_spec,
)

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


def plain_samples(count, *, shard=0, heatmaps=False, **values):
    """Samples of drawn discs; every label of a mask is 0, its class or 255."""
    settings = ShardConfig(heatmaps=heatmaps)
    for index in range(count):
        spec = make_spec(index, shard=shard)
        yield make_sample(spec, settings=settings, height=HEIGHT, width=WIDTH, **values)


def quick_samples(count, *, shard=0):
    """Copies of five samples under keys of their own: a large corpus in no time."""
    first = list(plain_samples(len(CLASSES)))
    for index in range(count):
        sample = first[index % len(first)]
        key = make_spec(index, shard=shard).key
        metadata = {**sample.metadata, "key": key}
        members = dict(sample.members) | {METADATA: to_json(metadata).encode()}
        yield dataclasses.replace(
            sample, key=key, metadata=metadata, members=tuple(members.items())
        )


FEW = ClassSet.from_record(
    {
        "name": "few",
        "classes": [
            {"id": 1, "name": "kerb", "colour": "#ff8800"},
            {"id": 7, "name": "lamp", "phrase": "street lamp"},
            {"id": 8, "name": "bin"},
            {"id": 130, "name": "tree"},
            {"id": 254, "name": "bench", "colour": "#0033cc"},
        ],
    }
)
"""Ids with gaps, the largest one among them."""
MANY = ClassSet.from_record(
    {
        "name": "many",
        "classes": [{"id": label, "name": f"thing{label:03}"} for label in range(1, 255)],
    }
)
"""As many classes as a set may have."""


def patchwork_samples(count, *, shard=0, classes=FEW):
    """Samples of scattered parts of up to four classes, with holes, corners and ignored pixels.

    The first has no part at all, the second nothing but ignored pixels around one part.
    """
    rng = np.random.default_rng([7, shard])
    ids = [entry.id for entry in classes.classes]
    for index in range(count):
        chosen = sorted(rng.choice(ids, min(4, len(ids)), replace=False).tolist())
        labels = rng.choice([0, 0, *chosen, 255], (HEIGHT // 4, WIDTH // 4)).astype(np.uint8)
        labels = labels.repeat(4, axis=0).repeat(4, axis=1)
        labels[rng.random(labels.shape) < 0.05] = 0
        if index == 0:
            labels[:] = 0
        elif index == 1:
            labels[:] = 255
            labels[3:9, 4:11] = chosen[0]
        by_id = {entry.id: entry for entry in classes.classes}
        targets = [(label, by_id[label].name, by_id[label].phrase) for label in chosen]
        spec = make_spec(index, shard=shard, targets=targets)
        yield encode_sample(
            spec,
            image=rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
            labels=labels,
            scores=rng.uniform(0.5, 1, len(chosen)).tolist(),
            areas=[float((labels == label).mean()) for label in chosen],
            heatmaps=np.zeros((len(chosen), 2, 3), np.float16),
            heatmap_max=[0.5] * len(chosen),
            class_ids=chosen,
            unsafe=False,
            provenance=PROVENANCE,
            settings=ShardConfig(),
        )


def write_corpus(
    root, sizes, samples=varied_samples, *, failures=1, finished=True, classes=None, **values
):
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
        if classes is not None:
            info["config"] = as_saved(classes)
        write_indexes(store, records, info)
    return store, records
