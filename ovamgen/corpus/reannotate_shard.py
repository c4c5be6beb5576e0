"""One shard with its masks made again from the heatmaps that it stores; no GPU and no torch.

Images, captions and heatmaps keep their bytes. Runs in a process of its own beside others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from ovamgen import __version__
from ovamgen.config import MaskConfig
from ovamgen.corpus.open import Corpus, spec_of
from ovamgen.errors import ConfigError, SampleError, ShardError
from ovamgen.masks.binarise import make_label_map
from ovamgen.records import EncodedSample, SampleFailure, SampleSpec, ShardRecord
from ovamgen.run.bad_samples import EarlyStop
from ovamgen.shards.arrays import decode_jpeg, decode_npz, encode_png
from ovamgen.shards.codec import HEATMAPS, IMAGE, MASK, METADATA
from ovamgen.shards.finished_shard import read_extra_fields
from ovamgen.shards.schema import NO_TARGET, SAMPLE_SCHEMA, conform, rounded, targets_of, to_json
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reannotation:
    """What all shards of one reannotation have in common; sent once to each process."""

    corpus: Corpus
    """Where images and heatmaps come from; every shard of it, whether a sample counts or not."""
    store: Store
    """Where the new shards go."""
    masks: MaskConfig
    """With ``tau`` resolved."""
    fingerprint: str
    """Fingerprint of the new shards."""
    early_stop: EarlyStop
    """Told of every sample; each process counts its own."""

    @property
    def provenance(self) -> dict[str, Any]:
        """The fields of a sample's metadata that say how its mask was made."""
        source = self.corpus.run_fingerprint
        return {
            "mask_preset": f"{self.masks.preset} (reannotated from {source})",
            "tau": self.masks.tau,
            "fingerprint": self.fingerprint,
            "ovamgen_version": __version__,
        }


def reannotate_shard(
    job: Reannotation, record: ShardRecord, after_sample: Callable[[], None] = lambda: None
) -> ShardRecord:
    """The record of the new shard, published.

    Args:
        job: the reannotation.
        record: of the shard whose heatmaps are read.
        after_sample: called after each sample; may raise to stop.

    Raises:
        ConfigError: a sample without heatmaps.
        ShardError: the shard is damaged, or the store failed.
        OvamgenError: the first samples all fail, so that no shard of failures is written.
    """
    failures = job.corpus.failures(record)
    return publish_shard(
        job.store,
        shard_index=record.shard_index,
        split=record.split,
        samples=_samples(job, record, failures, after_sample),
        # filled while the samples are taken, and read after the last one
        failures=failures,
        fingerprint=job.fingerprint,
        extra=read_extra_fields(job.corpus.store, record),
    )


def _samples(
    job: Reannotation,
    record: ShardRecord,
    failures: list[tuple[SampleSpec, SampleFailure]],
    after_sample: Callable[[], None],
) -> Iterator[EncodedSample]:
    for key, members, row in job.corpus.read_with_rows(record):
        try:
            sample = _reannotated(job, key, members, row)
        except SampleError as error:
            reason = f"SampleError: {' '.join(str(error).split())}"
            failure = SampleFailure(key=key, stage="masks", reason=reason)
            failures.append((spec_of(row), failure))
            job.early_stop.count(0, [failure])
        else:
            job.early_stop.count(1, ())
            yield sample
        after_sample()


def _reannotated(
    job: Reannotation, key: str, members: Mapping[str, bytes], row: Mapping[str, Any]
) -> EncodedSample:
    image = decode_jpeg(members[IMAGE], (row["height"], row["width"]), f"the image of sample {key}")
    targets = targets_of(row)
    labels = make_label_map(
        stored_heatmaps(key, members, targets),
        targets,
        image,
        job.masks,
        job.masks.taus(row["class_names"]) if targets else None,
    )
    metadata = conform(
        {
            **{name: row[name] for name in SAMPLE_SCHEMA.names},
            "scores": rounded(labels.scores),
            "areas": rounded(labels.areas),
            **({} if targets else NO_TARGET),
            "mask_sha256": hashlib.sha256(labels.labels.tobytes()).hexdigest(),
            **job.provenance,
        }
    )
    remade = {METADATA: to_json(metadata).encode(), MASK: encode_png(labels.labels)}
    return EncodedSample(
        key=key,
        members=tuple({**members, **remade}.items()),
        metadata=metadata,
        previews=tuple(row["previews"]),
    )


def stored_heatmaps(
    key: str, members: Mapping[str, bytes], class_ids: list[int]
) -> Float32[np.ndarray, "K h w"]:
    """The stored heatmaps of a sample's targets, in [0, 1], in steps of 1/255.

    Raises:
        ConfigError: heatmaps were not stored.
        ShardError: they are damaged, or not those of the targets.
    """
    if HEATMAPS not in members:
        raise ConfigError(
            f"sample {key} has no {HEATMAPS}: masks can be made again only where heatmaps were "
            "stored; make the corpus with 'ovamgen generate --set shards.heatmaps=true'"
        )
    maps, ids = decode_npz(members[HEATMAPS], f"the heatmaps of sample {key}")
    known = ids.tolist()
    absent = [class_id for class_id in class_ids if class_id not in known]
    if absent:
        raise ShardError(f"the heatmaps of sample {key} are not of all its targets: no {absent}")
    return _unit(maps[[known.index(class_id) for class_id in class_ids]])


def _unit(maps: UInt8[np.ndarray, "K h w"]) -> Float32[np.ndarray, "K h w"]:
    return maps.astype(np.float32) / np.float32(255)
