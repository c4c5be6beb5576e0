"""What a selection is decided by: the metadata of a corpus as columns, one row a sample and target.

It reads Parquet, and pictures only where it is told to.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64, UInt8

from ovamgen.classes.class_entry import BACKGROUND
from ovamgen.classes.class_set import ClassSet
from ovamgen.corpus.open import Corpus
from ovamgen.records import ShardRecord
from ovamgen.shards.arrays import decode_jpeg
from ovamgen.shards.codec import IMAGE

_DIGESTED_PIXELS = 2**22
"""Pixels of a picture, at most, whose greys are told by the digests of their pixels."""
_DIGESTED_SIZES = 16
"""Sizes of pictures, at most, of which greys are digested."""
_COLUMNS = ("class_ids", "scores", "areas", "unsafe", "height", "width", "image_sha256")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """All samples that a selection may keep, N of them, with M targets between them."""

    classes: ClassSet
    """What the targets are of."""
    keys: tuple[str, ...]
    """Ascending."""
    shards: Int64[np.ndarray, " N"]
    unsafe: Bool[np.ndarray, " N"]
    uniform: Bool[np.ndarray, " N"]
    """All pixels of the image are equal, as far as that was looked for."""
    sample: Int64[np.ndarray, " M"]
    """Index of the sample that a target belongs to, ascending."""
    class_ids: Int64[np.ndarray, " M"]
    scores: Float64[np.ndarray, " M"]
    areas: Float64[np.ndarray, " M"]
    """Fraction of the image."""
    failed: dict[str, int]
    """Samples of the run that were never made, by stage."""
    failed_by_class: dict[int, int]
    """The targets of those, by class id."""


def read_candidates(corpus: Corpus, *, read_pictures: bool = False) -> Candidates:
    """The candidates of a corpus or view.

    Which images are uniform (methods 7.4: a safety checker's black ones) is no field of the
    metadata, but the sha256 of the pixels is: every grey from black to white is recognised by it,
    and no picture is opened. Uniform images of other colours are found where pictures are read.

    Args:
        corpus: the finished shards.
        read_pictures: decode every image and compare its pixels.
    """
    digested = set[tuple[int, int]]()
    parts = [_shard(corpus, record, read_pictures, digested) for record in corpus.all_records]
    counts = np.array([len(part["keys"]) for part in parts], dtype=np.int64)
    starts = np.concatenate([[0], counts.cumsum()[:-1]]).astype(np.int64)
    failures = [failure for part in parts for failure in part["failed"]]
    failed = Counter(stage for stage, _ in failures)
    failed_by_class = Counter(class_id for _, class_ids in failures for class_id in class_ids)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in parts])

    offsets = np.repeat(starts, [len(part["sample"]) for part in parts])
    return Candidates(
        classes=corpus.classes,
        keys=tuple(key for part in parts for key in part["keys"]),
        shards=np.repeat(np.array([r.shard_index for r in corpus.all_records], np.int64), counts),
        unsafe=joined("unsafe"),
        uniform=joined("uniform"),
        sample=joined("sample") + offsets,
        class_ids=joined("class_ids"),
        scores=joined("scores"),
        areas=joined("areas"),
        failed=dict(sorted(failed.items())),
        failed_by_class=dict(sorted(failed_by_class.items())),
    )


def _shard(
    corpus: Corpus, record: ShardRecord, read_pictures: bool, digested: set[tuple[int, int]]
) -> dict[str, Any]:
    table = corpus.metadata(record, _COLUMNS)
    # what was never made is the first selection's business, not that of one upon it
    failures = [] if corpus.view is not None else corpus.failures(record)
    class_ids = table.column("class_ids").combine_chunks()
    flat_ids = pc.list_flatten(class_ids).to_numpy(False).astype(np.int64)
    # samples that are to show no class have no targets to judge them by
    is_target = flat_ids != BACKGROUND
    sizes = [*zip(*(table.column(name).to_pylist() for name in ("height", "width")), strict=True)]
    all_sizes = digested.union(sizes)
    # of large pictures, and of pictures of many sizes, the digests of all greys take longer than
    # reading them
    if (
        read_pictures
        or len(all_sizes) > _DIGESTED_SIZES
        or any(height * width > _DIGESTED_PIXELS for height, width in all_sizes)
    ):
        uniform = _constant_pictures(corpus, record, greys_only=not read_pictures)
    else:
        digested |= all_sizes
        digests = table.column("image_sha256").to_pylist()
        uniform = (sha256 in _greys(*size) for sha256, size in zip(digests, sizes, strict=True))
    return {
        "keys": table.column("key").to_pylist(),
        "unsafe": table.column("unsafe").to_numpy().astype(np.bool_),
        "uniform": np.fromiter(uniform, np.bool_, table.num_rows),
        "sample": np.repeat(
            np.arange(table.num_rows), pc.list_value_length(class_ids).to_numpy(False)
        ).astype(np.int64)[is_target],
        "class_ids": flat_ids[is_target],
        "scores": _flat(table, "scores")[is_target],
        "areas": _flat(table, "areas")[is_target],
        "failed": [(f.stage, [t.class_id for t in spec.targets]) for spec, f in failures],
    }


def _flat(table: pa.Table, name: str) -> Float64[np.ndarray, " M"]:
    values = pc.list_flatten(table.column(name).combine_chunks())
    return values.to_numpy(False).astype(np.float64)


def _constant_pictures(corpus: Corpus, record: ShardRecord, *, greys_only: bool) -> Iterator[bool]:
    if not corpus.count(record):
        return
    for key, members in corpus.read(record):
        pixels = decode_jpeg(members[IMAGE], name=f"the image of sample {key}")
        yield is_uniform(pixels) and not (greys_only and np.ptp(pixels[0, 0]))


def is_uniform(image: UInt8[np.ndarray, "H W 3"]) -> bool:
    """Whether all pixels are equal."""
    return bool((image == image[:1, :1]).all())


@lru_cache(maxsize=_DIGESTED_SIZES)
def _greys(height: int, width: int) -> frozenset[str]:
    """sha256 (hex) of the pixels of every image of a size that is of one grey all over."""
    size = height * width * 3
    return frozenset(hashlib.sha256(bytes([level]) * size).hexdigest() for level in range(256))
