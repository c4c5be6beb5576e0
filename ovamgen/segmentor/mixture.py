"""The order in which a training sees its pictures: a function of its seed and a running number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from ovamgen.pictures.example import Example, Examples

_ORDER, _AUGMENT = 0, 1
"""What random numbers are for: streams of different purposes are independent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """One or two sources as an endless sequence of pictures, each epoch in a new order.

    Of every stretch of the sequence, the second source has its share to within one picture.
    """

    sources: Sequence[Examples]
    second_share: float
    """Share of the second source, in [0, 1]; 0 where there is only one."""
    seed: int

    def place(self, number: int) -> tuple[int, int]:
        """Source and index of the picture with a running number."""
        # as a line is drawn in pixels: the second source's count grows by one at even distances
        before = int(number * self.second_share)
        source = int((number + 1) * self.second_share) - before
        turn = before if source else number - before
        epoch, position = divmod(turn, len(self.sources[source]))
        order = _order(self.seed, source, epoch, len(self.sources[source]))
        return source, int(order[position])

    def read(self, number: int) -> Example:
        """The picture with a running number."""
        source, index = self.place(number)
        return self.sources[source].read(index)

    def generator(self, number: int) -> np.random.Generator:
        """The random numbers that augment the picture with a running number."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, _AUGMENT, number]))


@lru_cache(maxsize=4)
def _order(seed: int, source: int, epoch: int, length: int) -> Int64[np.ndarray, " N"]:
    sequence = np.random.SeedSequence([seed, _ORDER, source, epoch])
    return np.random.default_rng(sequence).permutation(length)
