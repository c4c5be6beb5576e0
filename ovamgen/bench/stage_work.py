"""The stages of a sample after its drawing, done one by one so that each can be timed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from ovamgen.bench.stage_costs import STAGES
from ovamgen.masks.binarise import LabelMap, make_label_map
from ovamgen.records import EncodedSample, SampleSpec, ShardRecord
from ovamgen.run.shard import SampleContext
from ovamgen.shards.arrays import encode_jpeg, encode_npz, encode_png
from ovamgen.shards.codec import encode_sample
from ovamgen.shards.output_files import metadata_name, record_name, shard_name
from ovamgen.shards.schema import SCHEMA_VERSION, conform, to_json
from ovamgen.shards.shard_record import record_to_json
from ovamgen.shards.writer import metadata_parquet, write_tar
from ovamgen.storage.store import Store

NO_DIGEST = "0" * 64

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DrawnBatch:
    """A batch as it was drawn, its maps normalised."""

    images: UInt8[np.ndarray, "B H W 3"]
    heatmaps: Float16[np.ndarray, "B K h w"]
    heatmap_max: Float32[np.ndarray, "B K"]
    class_ids: tuple[int, ...]


class Tally:
    """Seconds and bytes of stages, added up within a round."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.cpu_seconds = dict.fromkeys(STAGES, 0.0)
        self.nbytes = dict.fromkeys(STAGES, 0)

    def run(self, stage: str, work: Callable[..., _Result], *given: Any, **named: Any) -> _Result:
        """What the work returns; its time, and its length where it is bytes, are added."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work(*given, **named)
        self.seconds[stage] += time.perf_counter() - wall
        self.cpu_seconds[stage] += time.process_time() - cpu
        if isinstance(result, bytes):
            self.nbytes[stage] += len(result)
        return result

    def take_away(self, part: str, *, of: str) -> None:
        """Leaves of a stage's time what does not belong to the part that it held as well."""
        self.seconds[of] -= self.seconds[part]
        self.cpu_seconds[of] -= self.cpu_seconds[part]

    def add(self, other: Tally) -> None:
        """Adds another's seconds and bytes."""
        for stage in STAGES:
            self.seconds[stage] += other.seconds[stage]
            self.cpu_seconds[stage] += other.cpu_seconds[stage]
            self.nbytes[stage] += other.nbytes[stage]


def make_masks(
    tally: Tally, drawn: DrawnBatch, specs: Sequence[SampleSpec], context: SampleContext
) -> list[LabelMap]:
    """Label maps; dense CRF is timed as what they take longer with it than without."""
    masks = context.config.masks
    hard = masks.model_copy(update={"crf": masks.crf.model_copy(update={"enabled": False})})
    found = []
    for image, heatmaps, spec in zip(drawn.images, drawn.heatmaps, specs, strict=True):
        ids = [target.class_id for target in spec.targets]
        maps = heatmaps[[drawn.class_ids.index(class_id) for class_id in ids]]
        alone = Tally()
        label_map = alone.run("masks", make_label_map, maps, ids, image, hard)
        if masks.crf.enabled:
            label_map = alone.run("dense CRF", make_label_map, maps, ids, image, masks)
            alone.take_away("masks", of="dense CRF")
        alone.nbytes["masks"] += label_map.labels.nbytes
        tally.add(alone)
        found.append(label_map)
    return found


def encode(
    tally: Tally,
    drawn: DrawnBatch,
    labels: Sequence[LabelMap],
    specs: Sequence[SampleSpec],
    context: SampleContext,
) -> list[EncodedSample]:
    """Encoded samples; the parts of their encoding are done once more, each by itself."""
    settings, samples = context.config.shards, []
    ids = np.asarray(drawn.class_ids, dtype=np.uint8)
    for index, (spec, label_map) in enumerate(zip(specs, labels, strict=True)):
        image, heatmaps = drawn.images[index], drawn.heatmaps[index]
        sample = encode_sample(
            spec,
            image=image,
            labels=label_map.labels,
            scores=label_map.scores,
            areas=label_map.areas,
            heatmaps=heatmaps,
            heatmap_max=drawn.heatmap_max[index].tolist(),
            class_ids=drawn.class_ids,
            unsafe=False,
            provenance=context.provenance,
            settings=settings,
        )
        in_8_bits = np.rint(heatmaps.astype(np.float32) * 255).astype(np.uint8)
        tally.run("jpg", encode_jpeg, image, settings.jpeg_quality)
        tally.run("mask png", encode_png, label_map.labels)
        tally.run("json", _encode_metadata, sample.metadata)
        for target in spec.targets:
            row = drawn.class_ids.index(target.class_id)
            tally.run("preview png", encode_png, in_8_bits[row])
        tally.run("heatmaps npz", encode_npz, in_8_bits, ids)
        tally.run("digests", _digest_pixels, image, label_map.labels)
        samples.append(sample)
    return samples


def _digest_pixels(*arrays: UInt8[np.ndarray, ...]) -> None:
    for array in arrays:
        hashlib.sha256(array.tobytes()).hexdigest()


def _encode_metadata(metadata: dict[str, Any]) -> bytes:
    return to_json(conform(metadata)).encode()


def write(
    tally: Tally, store: Store, samples: Sequence[EncodedSample], shard: int, split: str
) -> None:
    """The steps of `shard_record.publish_shard`; what they leave is removed again."""
    names = shard_name(split, shard), metadata_name(shard), record_name(shard)
    try:
        with store.scratch() as folder:
            path = folder / names[0]
            tar = tally.run("tar", write_tar, path, samples)
            metadata = tally.run("metadata", metadata_parquet, shard, samples, [])
            record = ShardRecord(
                schema_version=SCHEMA_VERSION,
                shard_index=shard,
                name=names[0],
                samples=len(samples),
                failed=0,
                size_bytes=tar.size_bytes,
                sha256=tar.sha256,
                md5=tar.md5,
                metadata_size_bytes=len(metadata),
                metadata_sha256=NO_DIGEST,
                fingerprint=NO_DIGEST,
            )
            tally.nbytes["tar"] += tar.size_bytes

            def publish() -> None:
                store.publish_file(path, names[0])
                store.put(names[1], metadata)
                store.create(names[2], record_to_json(record))

            tally.run("publish", publish)
            tally.nbytes["publish"] += tar.size_bytes + len(metadata)
    finally:
        for name in names:
            store.delete(name)
