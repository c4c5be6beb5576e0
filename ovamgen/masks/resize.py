"""Resizing of maps in numpy, by the sampling rule that the field's networks use.

It knows arrays of numbers; what they mean is known elsewhere.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64

Interpolation = Literal["bilinear", "bicubic"]

CUBIC_A = -0.75
"""Keys' cubic convolution parameter, as in OpenCV and PyTorch."""


def resize(
    maps: Float32[np.ndarray, "K h w"], height: int, width: int, interpolation: Interpolation
) -> Float32[np.ndarray, "K {height} {width}"]:
    """The maps at another size.

    Pixels are cells whose centres are aligned by area (``align_corners=False``) and there is no
    antialiasing: equal to ``torch.nn.functional.interpolate`` (methods, gotchas of section 9).
    Taps are summed elementwise in a fixed order, so the bits do not depend on BLAS or threads.

    Args:
        maps: any finite values.
        height: of the result, pixels.
        width: of the result, pixels.
        interpolation: ``bilinear`` stays within the values' range, ``bicubic`` (a = -0.75) may
            overshoot it.
    """
    rows = _sum_taps(maps, *_taps(maps.shape[1], height, interpolation), axis=1)
    return _sum_taps(rows, *_taps(maps.shape[2], width, interpolation), axis=2)


def _taps(
    size: int, new_size: int, interpolation: Interpolation
) -> tuple[Int64[np.ndarray, "T N"], Float32[np.ndarray, "T N"]]:
    """Source index and weight of every tap (T of them) of every new position (N)."""
    position = (np.arange(new_size) + 0.5) * (size / new_size) - 0.5
    if interpolation == "bilinear":
        position = np.maximum(position, 0.0)
    left = np.floor(position).astype(np.int64)
    t = position - left
    if interpolation == "bilinear":
        offsets, weights = [0, 1], [1 - t, t]
    else:
        offsets = [-1, 0, 1, 2]
        weights = [_far(1 + t), _near(t), _near(1 - t), _far(2 - t)]
    indices = np.stack([np.clip(left + offset, 0, size - 1) for offset in offsets])
    return indices, np.stack(weights).astype(np.float32)


def _near(x: np.ndarray) -> np.ndarray:
    """The cubic kernel for 0 <= x <= 1."""
    return ((CUBIC_A + 2) * x - (CUBIC_A + 3)) * x * x + 1


def _far(x: np.ndarray) -> np.ndarray:
    """The cubic kernel for 1 <= x <= 2."""
    return CUBIC_A * (((x - 5) * x + 8) * x - 4)


def _sum_taps(
    maps: Float32[np.ndarray, "K a b"],
    indices: Int64[np.ndarray, "T N"],
    weights: Float32[np.ndarray, "T N"],
    axis: int,
) -> Float32[np.ndarray, "K c d"]:
    shape = [1, 1, 1]
    shape[axis] = -1
    total = maps.take(indices[0], axis=axis) * weights[0].reshape(shape)
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        total += maps.take(index, axis=axis) * weight.reshape(shape)
    return total
