"""A refine task that takes a known time and gives encoded samples of real size."""

from __future__ import annotations

import functools
import time
from dataclasses import replace

import numpy as np

from ovamgen.bench.scale.engine import CELLS, CLASS_IDS, SIDE_PX
from ovamgen.classes.labels import target_of
from ovamgen.classes.loading import default_classes
from ovamgen.cluster.workers import RefineStatus
from ovamgen.config import ShardConfig
from ovamgen.records import EncodedSample, SampleFailure, SampleSpec, SynthesisBatch
from ovamgen.run.shard import SampleContext
from ovamgen.shards.codec import encode_sample
from ovamgen.shards.schema import Provenance, spec_fields

IMAGE_SECONDS = 0.005
"""Seconds an image. The real dCRF takes some 70 times that, on as many cores as it needs; here a
few have to do for the workers of a whole cluster."""

_NOISE = 6
"""Grey levels of the template's noise: its JPEG has about 100 kB, as a generated image has."""


def simulated_refine(
    batch: SynthesisBatch, start: int, stop: int, context: SampleContext
) -> tuple[list[EncodedSample | SampleFailure], RefineStatus]:
    """Stands in for `refine_images`: sleeps in place of the dense CRF and the encoders."""
    time.sleep(IMAGE_SECONDS * (stop - start))
    made = [sample_like_template(spec, context) for spec in batch.specs[start:stop]]
    nbytes = sum(sample.nbytes for sample in made)
    return [*made], RefineStatus(made=len(made), failures=(), nbytes=nbytes)


def sample_like_template(spec: SampleSpec, context: SampleContext) -> EncodedSample:
    """The template under another key: its pixels, the spec's own metadata and caption."""
    template = _template(context.provenance, context.config.shards)
    members = dict(template.members) | {"txt": spec.caption.encode()}
    return replace(
        template,
        key=spec.key,
        members=tuple(sorted(members.items())),
        metadata=template.metadata | spec_fields(spec),
    )


@functools.cache
def _template(provenance: Provenance, settings: ShardConfig) -> EncodedSample:
    """One sample, really encoded, once in a process."""
    random = np.random.default_rng(0)
    image = random.integers(128 - _NOISE, 128 + _NOISE, (SIDE_PX, SIDE_PX, 3), np.uint8)
    labels = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    labels[128:384, 100:400] = CLASS_IDS[0]
    heatmaps = random.random((len(CLASS_IDS), CELLS, CELLS), np.float32).astype(np.float16)
    return encode_sample(
        SampleSpec(
            key="0" * 11,
            prompt="",
            caption="",
            targets=(target_of(default_classes().classes[0]),),
            seed=0,
            caption_id=0,
            image_id=-1,
            word_included=True,
            word_included_published=True,
        ),
        image=image,
        labels=labels,
        scores=(0.5,),
        areas=(0.3,),
        heatmaps=heatmaps,
        heatmap_max=(0.5,) * len(CLASS_IDS),
        class_ids=CLASS_IDS,
        unsafe=False,
        provenance=provenance,
        settings=settings,
    )
