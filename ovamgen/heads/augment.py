"""Scaled crops of a picture and one mask, as DatasetDM's training makes them (methods 6.5)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch.nn.functional import interpolate

SCALES = (0.5, 0.8, 1.0, 1.3, 1.8, 2.0, 3.0)
OBJECT_SHARE = 5 / 8
"""Share of the crops that are made to hold object."""
_TRIES = 50


def scaled_crop(
    image: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    side: int,
    random: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "side side 3"], Bool[np.ndarray, "side side"]]:
    """A crop of the picture at a random scale, and the same of the mask; never mirrored.

    Args:
        image: RGB.
        mask: of the object.
        side: of the crop, in pixels; the picture is enlarged where it would be smaller.
        random: decides scale and place.
    """
    scale = SCALES[random.integers(len(SCALES))]
    sizes = [max(1, round(length * scale)) for length in mask.shape]
    if min(sizes) < side:
        sizes = [max(side, round(length * side / min(sizes))) for length in sizes]
    image, mask = _resized(image, sizes), _resized(mask[..., None], sizes)[..., 0] > 0
    room = [length - side for length in sizes]
    rows, columns = np.nonzero(mask)
    box: tuple[tuple[int, int], ...] | None = None
    if len(rows) and random.random() < OBJECT_SHARE:
        ends = ((rows.min(), rows.max()), (columns.min(), columns.max()))
        box = tuple((int(first), int(last) + 1) for first, last in ends)
    corner = (0, 0)
    for _ in range(_TRIES):
        corner = _corner(room, side, box, random)
        if box is None or _cut(mask, corner, side).any():
            break
    return np.ascontiguousarray(_cut(image, corner, side)), _cut(mask, corner, side).copy()


def _corner(
    room: list[int],
    side: int,
    box: tuple[tuple[int, int], ...] | None,
    random: np.random.Generator,
) -> tuple[int, int]:
    """Top and left of a crop: anywhere, or where it reaches the object's box."""
    found = []
    for axis, most in enumerate(room):
        low, high = 0, most
        if box is not None:
            low, high = (min(max(end - side, 0), most) for end in box[axis])
        found.append(int(random.integers(low, high + 1)))
    return found[0], found[1]


def _cut(array: np.ndarray, corner: tuple[int, int], side: int) -> np.ndarray:
    top, left = corner
    return array[top : top + side, left : left + side]


def _resized(array: np.ndarray, size: list[int]) -> UInt8[np.ndarray, "h w c"]:
    """Bilinear and rounded, the mask too: a pixel is object if at least half of it is."""
    if list(array.shape[:2]) == size:
        return array.astype(np.uint8)
    given = torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)[None]
    resized = interpolate(given, size=size, mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).round().numpy().astype(np.uint8)
