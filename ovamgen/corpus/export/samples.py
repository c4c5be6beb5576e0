"""The samples of a shard as formats get them: checked, divided, resized, of the classes asked for.

The one place where ``--split``, ``--size`` and ``--only-classes`` are applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import check_labels
from ovamgen.config import ShardConfig
from ovamgen.corpus.export.options import ExportOptions
from ovamgen.corpus.export.splits import Splits
from ovamgen.corpus.open import Corpus
from ovamgen.errors import ShardError
from ovamgen.records import ShardRecord
from ovamgen.shards.arrays import encode_jpeg, encode_png
from ovamgen.shards.codec import IMAGE, MASK, DecodedSample, decode_sample


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportSample:
    """One sample; image and mask agree in size, and every label is one of the classes kept."""

    key: str
    split: str
    image: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    jpeg: bytes
    """The image's file: the shard's own, where nothing was altered."""
    labels: UInt8[np.ndarray, "H W"]
    """Class ids, 0 background, 255 ignore."""
    png: bytes
    """The mask's file, 8 bits and one channel: the shard's own, where nothing was altered."""
    caption: str
    class_ids: tuple[int, ...]
    """Targets that were asked of the model, without classes that were left out."""
    scores: tuple[float, ...]
    """Score of each target, [0, 1]."""


def export_samples(
    corpus: Corpus,
    record: ShardRecord,
    options: ExportOptions,
    *,
    splits: Splits | None,
    classes: ClassSet,
    kept: ClassSet,
) -> Iterator[ExportSample]:
    """The samples of a shard, in order.

    Args:
        corpus: whose samples they are.
        record: of the shard.
        options: what is altered.
        splits: how they are divided; None keeps the shard's split.
        classes: of the corpus.
        kept: those of them that stay.

    Raises:
        ShardError: the shard is damaged, or a mask holds labels that the classes do not have.
    """
    staying = [BACKGROUND, *(entry.id for entry in kept.classes)]
    # the label that each label of the corpus becomes
    shown = np.full(256, BACKGROUND, np.uint8)
    shown[[*staying, IGNORE]] = [*staying, IGNORE]
    for key, members in corpus.read(record):
        sample = decode_sample(members)
        if sample.key != key:
            raise ShardError(f"{record.name}: sample {key} says that its key is {sample.key}")
        check_labels(
            sample.labels, classes, f"the mask of sample {key} in {record.name}", ShardError
        )
        image, jpeg = _image(sample, members[IMAGE], options)
        labels, png = _mask(sample, members[MASK], options, shown)
        ids = sample.metadata["class_ids"]
        targets = [
            pair for pair in zip(ids, sample.metadata["scores"], strict=True) if pair[0] in staying
        ]
        yield ExportSample(
            key=key,
            split=splits.of(key) if splits else record.split,
            image=image,
            jpeg=jpeg,
            labels=labels,
            png=png,
            caption=sample.caption,
            class_ids=tuple(class_id for class_id, _ in targets),
            scores=tuple(score for _, score in targets),
        )


def _image(
    sample: DecodedSample, jpeg: bytes, options: ExportOptions
) -> tuple[UInt8[np.ndarray, "H W 3"], bytes]:
    size = sample.image.shape[:2]
    new = options.size.of(*size) if options.size else size
    if new == size:
        return sample.image, jpeg
    image = _resized(sample.image, new, Image.Resampling.LANCZOS)
    return image, encode_jpeg(image, ShardConfig().jpeg_quality)


def _mask(
    sample: DecodedSample, png: bytes, options: ExportOptions, shown: UInt8[np.ndarray, " 256"]
) -> tuple[UInt8[np.ndarray, "H W"], bytes]:
    labels = sample.labels
    if options.size:
        labels = _resized(labels, options.size.of(*labels.shape), Image.Resampling.NEAREST)
    labels = shown[labels]
    if np.array_equal(labels, sample.labels):
        return labels, png
    return labels, encode_png(labels)


def _resized(
    pixels: UInt8[np.ndarray, "H W ..."], size: tuple[int, int], filter: Image.Resampling
) -> UInt8[np.ndarray, "h w ..."]:
    return np.array(Image.fromarray(pixels).resize(size[::-1], filter))
