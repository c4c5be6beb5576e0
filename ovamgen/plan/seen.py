"""Which numbers have come up before, in few bytes each."""

from __future__ import annotations

from array import array

_FIRST_SLOTS = 1 << 10
_FULL = 0.6
_WORD = (1 << 64) - 1


class SeenNumbers:
    """A set of integers of 128 bits that only grows: 27 to 54 bytes a number, a set needs 145.

    Open addressing with linear probing. The numbers are taken to be spread evenly over their lower
    64 bits, as digests are.
    """

    def __init__(self) -> None:
        self._low = array("Q", bytes(8 * _FIRST_SLOTS))
        self._high = array("Q", bytes(8 * _FIRST_SLOTS))
        self._count = 0
        self._zero = False

    def __contains__(self, number: int) -> bool:
        low, high = number & _WORD, number >> 64
        if not low and not high:
            return self._zero
        slot = self._slot(low, high)
        return bool(self._low[slot] or self._high[slot])

    def add(self, number: int) -> None:
        """Remember the number, 0 <= number < 2**128."""
        low, high = number & _WORD, number >> 64
        if not low and not high:
            # 0 marks a free slot
            self._zero = True
            return
        slot = self._slot(low, high)
        if self._low[slot] or self._high[slot]:
            return
        self._low[slot], self._high[slot] = low, high
        self._count += 1
        if self._count > _FULL * len(self._low):
            self._grow()

    def _slot(self, low: int, high: int) -> int:
        """Where the number stands, or the free slot where it would."""
        lows, highs = self._low, self._high
        last = len(lows) - 1
        slot = low & last
        while (lows[slot] != low or highs[slot] != high) and (lows[slot] or highs[slot]):
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        old = zip(self._low, self._high, strict=True)
        size = 2 * len(self._low)
        self._low, self._high = array("Q", bytes(8 * size)), array("Q", bytes(8 * size))
        for low, high in old:
            if low or high:
                slot = self._slot(low, high)
                self._low[slot], self._high[slot] = low, high
