"""The small pictures of a page: of each sample its image, its heatmap and its mask.

Tars are read once and in order, one sample in memory at a time; what is kept fits a byte budget.
"""

from __future__ import annotations

import heapq
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ovamgen.classes.class_entry import IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.console.progress import Track, untracked
from ovamgen.errors import ShardError
from ovamgen.records import ShardRecord
from ovamgen.report.panels import class_colours, fit, heatmap_overlay, mask_overlay
from ovamgen.report.sampling import Choice
from ovamgen.report.statistics import read_rows
from ovamgen.shards.arrays import encode_png
from ovamgen.shards.codec import DecodedSample, decode_sample
from ovamgen.shards.finished_shard import damaged, read_members
from ovamgen.storage.interface import Store

SIDE_PX = 256
"""Pixels of a thumbnail's longer side, at most; smaller images stay as they are."""

_QUALITY = 76
_TEXT_BYTES = 5_000
"""Bytes of markup around the pictures, with a prompt of 400 characters that stands there twice."""
_TARGET_BYTES = 600
_MAX_RATIO = 4
"""Longer to shorter side, so that a strip of an image still gives a picture."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thumbnail:
    """A sample as a page shows it; pictures are WebP, all of one size."""

    choice: Choice
    metadata: Mapping[str, object]
    """The content of ``KEY.json``."""
    height: int
    """Pixels."""
    width: int
    image: bytes
    heatmap: bytes | None
    """None where no heatmap was stored."""
    mask: bytes
    ignored: bool
    """The mask has pixels that are left out of training."""

    @property
    def page_bytes(self) -> int:
        """Bytes that it takes on a page, at most: pictures as base64, and the texts beside them."""
        pictures = len(self.image) + len(self.heatmap or b"") + len(self.mask)
        targets = len(self.choice.candidate.class_ids)
        return pictures * 4 // 3 + _TEXT_BYTES + targets * _TARGET_BYTES


def make_thumbnails(
    store: Store,
    records: Sequence[ShardRecord],
    choices: Sequence[Choice],
    classes: ClassSet,
    *,
    max_bytes: int,
    track: Track = untracked,
) -> list[Thumbnail]:
    """The thumbnails of the choices in their order, the least wanted left out beyond the budget.

    Args:
        store: of the run.
        records: of all shards.
        choices: the most wanted first.
        classes: of the masks.
        max_bytes: of the page that they take together (`Thumbnail.page_bytes`).
        track: shows how far it is.

    Raises:
        ShardError: a tar or a sample is damaged, or a sample of the metadata is not in its tar.
    """
    colours = class_colours(classes)
    by_shard: dict[int, dict[str, tuple[int, Choice]]] = defaultdict(dict)
    for rank, choice in enumerate(choices):
        by_shard[choice.candidate.shard_index][choice.candidate.key] = rank, choice
    # a heap whose first entry is the least wanted one
    kept: list[tuple[int, Thumbnail]] = []
    total = 0
    wanted = [record for record in records if record.shard_index in by_shard]
    for record in track(wanted, len(wanted), "shards of pictures"):
        for rank, thumbnail in _of_shard(store, record, by_shard[record.shard_index], colours):
            heapq.heappush(kept, (-rank, thumbnail))
            total += thumbnail.page_bytes
            while total > max_bytes:
                total -= heapq.heappop(kept)[1].page_bytes
    return [thumbnail for _, thumbnail in sorted(kept, key=lambda entry: -entry[0])]


def _of_shard(
    store: Store,
    record: ShardRecord,
    wanted: dict[str, tuple[int, Choice]],
    colours: UInt8[np.ndarray, "256 3"],
) -> Iterator[tuple[int, Thumbnail]]:
    previews = _previews(store, record, wanted)
    for key, members in read_members(store, record, wanted):
        rank, choice = wanted[key]
        try:
            thumbnail = _thumbnail(decode_sample(members), previews[key], choice, colours)
        except ShardError as error:
            raise damaged(store, record, f"is damaged: {error}") from None
        yield rank, thumbnail


def _previews(
    store: Store, record: ShardRecord, wanted: Mapping[str, object]
) -> dict[str, tuple[bytes, ...]]:
    """The heatmaps of each sample's targets as PNGs; () where the metadata has none."""
    rows = read_rows(store, record, ("key", "previews"))
    return {row["key"]: tuple(row["previews"] or ()) for row in rows if row["key"] in wanted}


def _thumbnail(
    sample: DecodedSample,
    previews: tuple[bytes, ...],
    choice: Choice,
    colours: UInt8[np.ndarray, "256 3"],
) -> Thumbnail:
    height, width = _size(*sample.labels.shape)
    image = fit(sample.image, height, width)
    maps = previews or _stored(sample)
    return Thumbnail(
        choice=choice,
        metadata=sample.metadata,
        height=height,
        width=width,
        image=_webp(image),
        heatmap=_webp(heatmap_overlay(image, maps)) if maps else None,
        mask=_webp(mask_overlay(image, sample.labels, colours)),
        ignored=bool((sample.labels == IGNORE).any()),
    )


def _stored(sample: DecodedSample) -> tuple[bytes, ...]:
    """The targets' maps out of ``KEY.heatmaps.npz``, for a corpus whose previews are gone."""
    if sample.heatmaps is None:
        return ()
    ids = sample.heatmap_class_ids
    targets = [class_id for class_id in sample.metadata["class_ids"] if class_id in ids]
    return tuple(encode_png(sample.heatmaps[ids.index(class_id)]) for class_id in targets)


def _size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, SIDE_PX / max(height, width))
    shortest = max(1, round(scale * max(height, width) / _MAX_RATIO))
    return max(shortest, round(height * scale)), max(shortest, round(width * scale))


def _webp(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()
