"""Label Studio's run-length encoding of brush masks.

It is the format of thi.ng's rle-pack over the mask's RGBA bytes: 32 bits with the number of values,
5 with the bits of a value less one, four times 4 with the bits of a length less one; then runs of a
flag, 2 bits that choose one of the four, the length less one and the value.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Bool

_VALUE_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
_CHANNELS = 4


def brush_rle(region: Bool[np.ndarray, "H W"]) -> list[int]:
    """The bytes that stand for a region: 255 in all channels inside, 0 outside."""
    flat = region.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bits = [f"{flat.size * _CHANNELS:032b}", f"{_VALUE_BITS - 1:05b}"]
    bits += [f"{size - 1:04b}" for size in _LENGTH_BITS]
    for start, end in itertools.pairwise([0, *edges.tolist(), flat.size]):
        value = f"{255 if flat[start] else 0:0{_VALUE_BITS}b}"
        left = (end - start) * _CHANNELS
        while left:
            length = min(left, 2 ** _LENGTH_BITS[-1])
            choice = next(n for n, size in enumerate(_LENGTH_BITS) if length <= 2**size)
            bits.append(f"1{choice:02b}{length - 1:0{_LENGTH_BITS[choice]}b}{value}")
            left -= length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
