"""One sample to the bytes of its tar members, and back; it does not know tars or stores."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float16, UInt8

from ovamgen.config import ShardConfig
from ovamgen.errors import SampleError, ShardError
from ovamgen.records import EncodedSample, SampleSpec, is_key
from ovamgen.shards.arrays import (
    decode_jpeg,
    decode_npz,
    decode_png,
    encode_jpeg,
    encode_npz,
    encode_png,
)
from ovamgen.shards.schema import (
    NO_TARGET,
    SCHEMA_VERSION,
    Provenance,
    conform,
    provenance_fields,
    rounded,
    spec_fields,
    to_json,
)
from ovamgen.storage.plain_json import load_plain_json

IMAGE, METADATA, MASK, CAPTION, HEATMAPS = "jpg", "json", "mask.png", "txt", "heatmaps.npz"
MEMBERS = (IMAGE, METADATA, MASK, CAPTION)
"""Extensions that every sample has, in the order of the tar."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedSample:
    """One sample as read from a shard."""

    key: str
    image: UInt8[np.ndarray, "H W 3"]
    """RGB, as JPEG left it."""
    labels: UInt8[np.ndarray, "H W"]
    """Class ids, 0 background, 255 ignore; exact."""
    caption: str
    metadata: dict[str, Any]
    """The content of ``KEY.json``; fields in `SAMPLE_SCHEMA`."""
    heatmaps: UInt8[np.ndarray, "K h w"] | None
    """Maps of all classes, 255 the maximum of each; None where the run did not store them."""
    heatmap_class_ids: tuple[int, ...]
    """Class ids of the heatmaps; empty where there are none."""


def encode_sample(
    spec: SampleSpec,
    *,
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    scores: Sequence[float],
    areas: Sequence[float],
    heatmaps: Float16[np.ndarray, "K h w"],
    heatmap_max: Sequence[float],
    class_ids: Sequence[int],
    unsafe: bool,
    provenance: Provenance,
    settings: ShardConfig,
    jpeg: bytes | None = None,
) -> EncodedSample:
    """The sample's tar members, metadata and previews; equal arguments give equal bytes.

    Members (conventions 3.1, 3.2): JPEG without chroma subsampling, JSON, the mask as an 8-bit
    single-channel PNG of class ids, the caption, and all heatmaps in 8 bits where the settings say
    so. The order is that of sorted names.

    Args:
        spec: what the sample was to be.
        image: RGB.
        labels: class ids, 0 background, 255 ignore.
        scores: for each target of the spec, [0, 1].
        areas: for each target of the spec, [0, 1].
        heatmaps: of K classes, in [0, 1], at latent resolution.
        heatmap_max: for each of the K classes, [0, 1].
        class_ids: of the K classes.
        unsafe: the safety checker's verdict.
        provenance: what the run depended on.
        settings: quality of the JPEG, and whether heatmaps are stored.
        jpeg: the file that has these pixels, where there is one.

    Raises:
        SampleError: sizes that differ, a target without a heatmap, text that is no Unicode,
            metadata that does not fit the schema.
    """
    height, width = labels.shape
    if image.shape != (height, width, 3):
        raise SampleError(
            f"sample {spec.key}: expected an RGB image of {height} x {width} pixels, as its mask "
            f"is, got an array of shape {image.shape}"
        )
    if not spec.targets and (labels.any() or len(scores) or len(areas)):
        raise SampleError(
            f"sample {spec.key} is to show no class: expected a mask of background alone and no "
            f"scores, got ids up to {labels.max()} and {len(scores)} scores"
        )
    rows = _target_rows(spec, class_ids, len(heatmaps), len(heatmap_max))
    metadata = conform(
        {
            **spec_fields(spec),
            "scores": rounded(scores),
            "areas": rounded(areas),
            "heatmap_max": rounded(heatmap_max[row] for row in rows),
            **({} if spec.targets else NO_TARGET),
            "height": height,
            "width": width,
            "unsafe": unsafe,
            "image_sha256": hashlib.sha256(np.ascontiguousarray(image).data).hexdigest(),
            "mask_sha256": hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest(),
            **provenance_fields(provenance),
        }
    )
    members = {
        IMAGE: jpeg or encode_jpeg(image, settings.jpeg_quality, drawn=spec.picture is None),
        METADATA: _utf8(spec.key, to_json(metadata)),
        MASK: encode_png(labels),
        CAPTION: _utf8(spec.key, spec.caption),
    }
    if settings.heatmaps:
        members[HEATMAPS] = encode_npz(_to_bytes8(heatmaps), np.asarray(class_ids, dtype=np.uint8))
    return EncodedSample(
        key=spec.key,
        members=tuple(sorted(members.items())),
        metadata=metadata,
        previews=tuple(encode_png(_to_bytes8(heatmaps[row])) for row in rows),
    )


def check_members(members: Collection[str], name: str) -> None:
    """Refuses a sample without all of `MEMBERS`.

    Args:
        members: those that it has, by extension without the leading dot.
        name: what the message calls the sample.

    Raises:
        ShardError: which are missing.
    """
    if missing := [member for member in MEMBERS if member not in members]:
        raise ShardError(f"{name} needs {', '.join(MEMBERS)}; missing here: {', '.join(missing)}")


def decode_sample(members: Mapping[str, bytes]) -> DecodedSample:
    """The sample that the members of one key hold, by extension without the leading dot.

    Raises:
        ShardError: a member is missing or damaged, sizes do not agree, or the mask's pixels are not
            those that its metadata recorded.
    """
    check_members(members, "a sample")
    metadata = _metadata(members[METADATA])
    key = metadata["key"]
    size = (metadata["height"], metadata["width"])
    image = decode_jpeg(members[IMAGE], size, f"the image of sample {key}")
    labels = decode_png(members[MASK], size, f"the mask of sample {key}")
    if hashlib.sha256(labels.tobytes()).hexdigest() != metadata["mask_sha256"]:
        raise ShardError(f"sample {key}: the mask's pixels are not those recorded in its metadata")
    try:
        caption = members[CAPTION].decode()
    except UnicodeDecodeError as error:
        raise ShardError(f"sample {key}: the caption is not UTF-8 ({error})") from None
    heatmaps, class_ids = None, ()
    if HEATMAPS in members:
        heatmaps, ids = decode_npz(members[HEATMAPS], f"the heatmaps of sample {key}")
        class_ids = tuple(ids.tolist())
    return DecodedSample(
        key=key,
        image=image,
        labels=labels,
        caption=caption,
        metadata=metadata,
        heatmaps=heatmaps,
        heatmap_class_ids=class_ids,
    )


def _target_rows(
    spec: SampleSpec, class_ids: Sequence[int], maps: int, maxima: int
) -> tuple[int, ...]:
    if not len(class_ids) == maps == maxima:
        raise SampleError(
            f"sample {spec.key}: expected one heatmap and one maximum for each class id, got "
            f"{len(class_ids)} ids, {maps} heatmaps and {maxima} maxima"
        )
    absent = [t.class_name for t in spec.targets if t.class_id not in class_ids]
    if absent:
        raise SampleError(f"sample {spec.key}: there is no heatmap of {', '.join(absent)}")
    return tuple(list(class_ids).index(target.class_id) for target in spec.targets)


def _to_bytes8(heatmaps: Float16[np.ndarray, "*size"]) -> UInt8[np.ndarray, "*size"]:
    return np.rint(heatmaps.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)


def _utf8(key: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise SampleError(
            f"sample {key}: the text must be Unicode, got lone surrogates in {text[:60]!a}"
        ) from None


def _metadata(data: bytes) -> dict[str, Any]:
    try:
        values = load_plain_json(data)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"a sample's json member cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ShardError(f"a sample's json member must be an object, got {type(values).__name__}")
    version = values.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ShardError(
            f"a sample's json member has schema version {version!r}, this ovamgen reads "
            f"{SCHEMA_VERSION}: use the ovamgen that wrote it"
        )
    try:
        conformed = conform(values)
    except SampleError as error:
        raise ShardError(f"a sample's json member is damaged: {error}") from None
    if not is_key(conformed["key"]):
        raise ShardError(f"a sample's key must be digits, got {conformed['key']!a:.80}")
    return conformed
