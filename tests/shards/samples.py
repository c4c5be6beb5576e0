"""Samples made of drawn discs, for tests of shards and of what reads them."""

import numpy as np

from ovamgen.config import ShardConfig
from ovamgen.records import SampleFailure, SampleSpec, Target
from ovamgen.shards.codec import encode_sample
from ovamgen.shards.schema import Provenance

FINGERPRINT = "f" * 64

PROVENANCE = Provenance(
    fingerprint=FINGERPRINT,
    model="mini",
    model_revision="",
    model_digest="ab" * 32,
    model_trained=False,
    tokens="untrained",
    tokens_sha256="cd" * 32,
    method="ovam",
    branch="unconditional",
    mask_preset="paper",
    tau=0.8,
    scheduler="PNDM",
    steps=30,
    guidance=7.5,
    ovamgen_version="0.1.0",
)

CLASSES = (
    (1, "aeroplane", "aeroplane"),
    (8, "cat", "cat"),
    (11, "diningtable", "dining table"),
    (15, "person", "person"),
    (20, "tvmonitor", "tv"),
)
CLASS_IDS = tuple(class_id for class_id, _, _ in CLASSES)


def make_spec(index, *, shard=0, targets=None, **values):
    chosen = targets if targets is not None else [CLASSES[index % len(CLASSES)]]
    fields = {
        "key": f"{shard:06d}{index:05d}",
        "prompt": f"a photo of a {chosen[0][2]} number {index}",
        "caption": f"A photo of a {chosen[0][2]}, number {index}.",
        "targets": tuple(Target(class_id=i, class_name=n, phrase=p) for i, n, p in chosen),
        "seed": 2**62 + 1000 * shard + index,
        "caption_id": 1000 + index,
        "image_id": -1,
        "word_included": True,
        "word_included_published": False,
    }
    return SampleSpec(**fields | values)


def draw(spec, height=48, width=64):
    """Image, labels and (5, height/8, width/8) heatmaps of a sample: one disc a target."""
    rng = np.random.default_rng(spec.seed)
    image = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    labels = np.zeros((height, width), np.uint8)
    heatmaps = np.zeros((len(CLASSES), height // 8, width // 8), np.float16)
    y, x = np.mgrid[:height, :width]
    for number, target in enumerate(spec.targets):
        centre = (height * 0.5, width * (number + 0.5) / len(spec.targets))
        distance = np.hypot(y - centre[0], x - centre[1])
        radius = min(height, width) * 0.3
        image[distance < radius] = rng.integers(120, 256, 3)
        labels[distance < radius + 2] = 255
        labels[distance < radius] = target.class_id
        heat = np.exp(-((distance / radius) ** 2))[4::8, 4::8]
        heatmaps[CLASS_IDS.index(target.class_id)] = heat / heat.max()
    return image, labels, heatmaps


def make_sample(spec, *, settings=None, height=48, width=64, **values):
    image, labels, heatmaps = draw(spec, height, width)
    count = len(spec.targets)
    arguments = {
        "image": image,
        "labels": labels,
        "scores": [0.9123456789] * count,
        "areas": [float((labels == t.class_id).mean()) for t in spec.targets],
        "heatmaps": heatmaps,
        "heatmap_max": [0.5] * len(CLASSES),
        "class_ids": CLASS_IDS,
        "unsafe": False,
        "provenance": PROVENANCE,
        "settings": settings or ShardConfig(),
    }
    return encode_sample(spec, **arguments | values)


def make_samples(count, *, shard=0, **values):
    return [make_sample(make_spec(index, shard=shard), **values) for index in range(count)]


def make_failure(index, *, shard=0, stage="synthesis", reason="ValueError: not finite"):
    spec = make_spec(index, shard=shard)
    return spec, SampleFailure(key=spec.key, stage=stage, reason=reason)
