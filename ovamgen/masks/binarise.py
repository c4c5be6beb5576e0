"""Heatmaps of a sample's targets to one label map: threshold, competition, dense CRF, ignore band.

It does not know where heatmaps come from, nor how a label map is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from ovamgen.config import MaskConfig
from ovamgen.errors import SampleError
from ovamgen.masks.crf import dense_crf
from ovamgen.masks.resize import resize

BACKGROUND = 0
IGNORE = 255


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelMap:
    """The label map of one sample, with how it came out for each target."""

    labels: UInt8[np.ndarray, "H W"]
    """Class ids, 0 background, 255 ignore."""
    scores: tuple[float, ...]
    """For each target the mean score inside its final mask, [0, 1]; 0.0 where the mask is empty."""
    areas: tuple[float, ...]
    """For each target the fraction of the image's pixels that its final mask covers, [0, 1]."""


def make_label_map(
    heatmaps: Float[np.ndarray, "K h w"],
    class_ids: Sequence[int],
    image: UInt8[np.ndarray, "H W 3"],
    settings: MaskConfig,
    taus: Sequence[float] | None = None,
) -> LabelMap:
    """The label map that the targets' heatmaps make on their image.

    Scores as `class_scores` gives them, then in this order (DESIGN 5; methods 2.6, 3, 4 and 7.4):
    ``> tau`` and competition (a pixel claimed by several classes goes to the largest score, on
    equal scores to the lowest class id), or with ``beta`` the largest of the scores and of a
    background channel ``1 - largest map - beta``, which wins ties; dense CRF with K + 1 labels; 255
    where the largest score lies in the ignore band. Without targets all is background.

    Args:
        heatmaps: one map a target, finite and not negative; an all-zero map gives an empty mask, a
            constant one claims every pixel, or with min-max normalisation none.
        class_ids: the targets' ids, 1..254, each once, in the order of the maps.
        image: RGB, of the size that the label map will have.
        settings: ``tau`` resolved, as `RunConfig` does.
        taus: the threshold of each target (`MaskConfig.taus`); ``tau`` where not given.

    Raises:
        ConfigError: ``tau`` is not resolved.
        SampleError: ids that repeat, are out of range or do not fit the maps; maps that are not
            finite or negative.
    """
    if not len(class_ids) and not len(heatmaps):
        # no map says anything, and a dense CRF has nothing to refine
        return LabelMap(labels=np.zeros(image.shape[:2], np.uint8), scores=(), areas=())
    _check(heatmaps, class_ids)
    named = settings.taus([""] * len(class_ids)) if taus is None else taus
    height, width = image.shape[:2]

    # Label k + 1 is the class with the k-th lowest id, so that argmax settles ties as promised.
    ascending = np.argsort(np.asarray(class_ids))
    scores = class_scores(heatmaps, height, width, settings)
    ordered = scores[ascending]
    values = np.array([BACKGROUND, *np.asarray(class_ids)[ascending]], dtype=np.uint8)

    if settings.beta is None:
        # a list of floats is compared as float32, as one float is
        above = np.array(named, np.float32)[ascending, None, None]
        indices = _compete(ordered, ordered > above)
    else:
        background = 1 - _at_map(heatmaps, settings).max(axis=0, keepdims=True) - settings.beta
        channel = resize(background.astype(np.float32), height, width, settings.interpolation)
        indices = np.concatenate([channel, ordered]).argmax(axis=0).astype(np.uint8)
    if settings.crf.enabled:
        soft = settings.crf.unary == "soft"
        probabilities = _soft(ordered) if soft else _hard(indices, len(values))
        indices = dense_crf(image, probabilities, settings.crf)
    labels = values[indices]
    if settings.ignore_low is not None and settings.ignore_high is not None:
        best = scores.max(axis=0)
        labels[(best >= settings.ignore_low) & (best < settings.ignore_high)] = IGNORE

    masks = [labels == class_id for class_id in class_ids]
    return LabelMap(
        labels=labels,
        scores=tuple(_mean(score, mask) for score, mask in zip(scores, masks, strict=True)),
        areas=tuple(float(np.count_nonzero(mask) / mask.size) for mask in masks),
    )


def class_scores(
    heatmaps: Float[np.ndarray, "K h w"], height: int, width: int, settings: MaskConfig
) -> Float32[np.ndarray, "K {height} {width}"]:
    """What is compared with ``tau``: maps normalised, times the factor, at the image's size.

    Each map is divided by its own maximum, has its range spread over [0, 1], or stays as it is
    (normalisation ``none``), before or after it is resized as ``normalised_at`` says, and is
    multiplied by the constant that stands for the published self-attention factor (methods 2.6).
    Maps that carry the received self-attention were normalised before they were multiplied, and
    stay as they are.

    Args:
        heatmaps: as for `make_label_map`.
        height: of the result, pixels.
        width: of the result, pixels.
        settings: ``self_attention_low`` resolved, as `RunConfig` does.

    Returns:
        Scores in [0, 1].
    """
    maps = heatmaps.astype(np.float32) if _late(settings) else _at_map(heatmaps, settings)
    maps = resize(maps, height, width, settings.interpolation)
    if _late(settings):
        maps = _normalise(maps, settings)
    # Bicubic overshoots; bilinear leaves [0, 1] by rounding at most.
    return maps.clip(0.0, 1.0)


def _late(settings: MaskConfig) -> bool:
    return settings.normalised_at == "image"


def _at_map(
    heatmaps: Float[np.ndarray, "K h w"], settings: MaskConfig
) -> Float32[np.ndarray, "K h w"]:
    """Normalised maps, times the constant factor, at their own resolution."""
    maps = heatmaps.astype(np.float32)
    return maps if settings.self_attention == "received" else _normalise(maps, settings)


def _normalise(
    maps: Float32[np.ndarray, "K a b"], settings: MaskConfig
) -> Float32[np.ndarray, "K a b"]:
    if settings.normalisation != "none":
        spans = maps.max(axis=(1, 2), keepdims=True)
        if settings.normalisation == "min-max":
            lowest = maps.min(axis=(1, 2), keepdims=True)
            maps, spans = maps - lowest, spans - lowest
        maps = np.divide(maps, spans, out=np.zeros_like(maps), where=spans > 0)
    if settings.self_attention == "constant" and settings.self_attention_low is not None:
        maps = maps * np.float32(settings.self_attention_low)
    return maps


def _check(heatmaps: np.ndarray, class_ids: Sequence[int]) -> None:
    if len(class_ids) != len(heatmaps):
        raise SampleError(
            f"a label map needs one class id for each heatmap, got {len(heatmaps)} heatmaps and "
            f"{len(class_ids)} ids"
        )
    if len(set(class_ids)) != len(class_ids):
        raise SampleError(f"class ids of a label map must differ, got {list(class_ids)}")
    if not all(BACKGROUND < class_id < IGNORE for class_id in class_ids):
        raise SampleError(f"class ids of a label map must be 1..254, got {list(class_ids)}")
    if not np.isfinite(heatmaps).all() or heatmaps.min() < 0:
        raise SampleError(
            f"heatmaps must be finite and not negative, got values from {heatmaps.min()} to "
            f"{heatmaps.max()}: half precision may have overflowed, try model.dtype=float32"
        )


def _compete(
    scores: Float32[np.ndarray, "K H W"], claims: Bool[np.ndarray, "K H W"]
) -> UInt8[np.ndarray, "H W"]:
    """0 where nobody claims the pixel, else 1 + the claimant with the largest score."""
    winner = np.where(claims, scores, np.float32(-1)).argmax(axis=0)
    return np.where(claims.any(axis=0), winner + 1, 0).astype(np.uint8)


def _hard(indices: UInt8[np.ndarray, "H W"], labels: int) -> Float32[np.ndarray, "{labels} H W"]:
    return (indices == np.arange(labels)[:, None, None]).astype(np.float32)


def _soft(scores: Float32[np.ndarray, "K H W"]) -> Float32[np.ndarray, "L H W"]:
    """Background as what the best class leaves over; the sum is at least 1, never 0."""
    stack = np.concatenate([1 - scores.max(axis=0, keepdims=True), scores])
    return stack / stack.sum(axis=0, keepdims=True)


def _mean(score: Float32[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"]) -> float:
    return float(score[mask].mean(dtype=np.float64)) if mask.any() else 0.0
