"""Maps refined by a self-attention matrix: by its powers, or by iterating a sharpened one.

Both take a matrix whose rows are queries and sum to 1, and maps on its positions. Dimension
letters: `ovamgen.attribution.maps`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import interpolate

from ovamgen.config import MaskConfig


def refine(
    maps: Float32[Tensor, "B K h w"],
    matrix: Float32[Tensor, "B P P"],
    size: tuple[int, int],
    settings: MaskConfig,
) -> Float32[Tensor, "B K H W"]:
    """The maps refined as ``settings.self_attention`` says, ``affinity`` or ``iterated``.

    Maps larger than the matrix's layer are averaged down to it and resized back (bilinear).
    Smaller ones are resized to it (bicubic, as Dataset Diffusion has it; negative overshoot is cut
    off) and stay at its size.

    Args:
        maps: not negative.
        matrix: mean self-attention of one resolution.
        size: (height, width) of that resolution, P = height · width.
        settings: the kind and its numbers.
    """
    given = (maps.shape[2], maps.shape[3])
    larger = given[0] * given[1] >= size[0] * size[1]
    if larger:
        fitted = interpolate(maps, size=size, mode="area")
    else:
        fitted = interpolate(maps, size=size, mode="bicubic", align_corners=False).clamp(min=0)
    columns = fitted.flatten(2).mT
    if settings.self_attention == "iterated":
        refined = iterate(
            columns,
            matrix,
            times=settings.self_attention_iterations,
            entropy_step=settings.self_attention_entropy_step,
        )
    else:
        refined = columns
        for _ in range(settings.self_attention_power):
            refined = matrix @ refined
    result = refined.mT.reshape(*maps.shape[:2], *size)
    if not larger or given == size:
        return result
    return interpolate(result, size=given, mode="bilinear", align_corners=False)


def iterate(
    columns: Float32[Tensor, "B P K"],
    matrix: Float32[Tensor, "B P P"],
    *,
    times: int,
    entropy_step: float,
) -> Float32[Tensor, "B P K"]:
    """Maps multiplied again and again by a matrix of less entropy, from 0 to the peak they had.

    After iSeg (Sun et al., arXiv 2409.03209) and its released code (``wsss/iSeg.py`` of
    linsun449/iseg.code): in each round a map is multiplied by the matrix of `less_entropy`, its
    minimum is subtracted, and it is divided by its sum. Not taken: the category-enhanced
    cross-attention (class rows of the text times 1.6, beside a text of background words), the
    choice of single heads, and the single UNet call at timestep 100.

    Args:
        columns: maps, not negative; one without contrast becomes all zero.
        matrix: rows are queries and sum to 1.
        times: rounds; the released code takes 10.
        entropy_step: of `less_entropy`.
    """
    sharpened = less_entropy(matrix, entropy_step)
    result = _spread_to_one(columns)
    for _ in range(times):
        result = _spread_to_one(sharpened @ result)
    peaks, wanted = result.amax(1, keepdim=True), columns.amax(1, keepdim=True)
    return torch.where(peaks > 0, result * (wanted / peaks), 0.0)


def less_entropy(matrix: Float32[Tensor, "B P P"], step: float) -> Float32[Tensor, "B P P"]:
    """The matrix after one step down the gradient of its entropy; rows sum to 1.

    Each key's column is divided by its largest value. Then A becomes A - step · dE/dA, where
    E = -sum A log10 A, that is A + step · log10(e · A), and 0 where that is negative: weak
    responses go, the largest gain most. iSeg steps by 0.015 on VOC and by 0.1 on COCO. A row of
    which nothing is left stays as it was.
    """
    scaled = matrix / matrix.amax(1, keepdim=True).clamp(min=torch.finfo(matrix.dtype).tiny)
    gain = step * (scaled.log10() + math.log10(math.e))
    kept = torch.where(scaled > 0, scaled + gain, 0.0).clamp(min=0)
    sums = kept.sum(-1, keepdim=True)
    return torch.where(sums > 0, kept / sums, matrix)


def _spread_to_one(columns: Float32[Tensor, "B P K"]) -> Float32[Tensor, "B P K"]:
    """Each map from 0, with sum 1; all zero where it has no contrast."""
    raised = columns - columns.amin(1, keepdim=True)
    sums = raised.sum(1, keepdim=True)
    return torch.where(sums > 0, raised / sums, 0.0)
