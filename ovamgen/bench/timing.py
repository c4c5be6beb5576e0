"""Times of several ways to do the same, taken by turns, as medians and quartiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ovamgen.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A measured value: the median of its repetitions and their quartiles, all within the data."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        if len(values) == 1:
            return cls(median=values[0], low=values[0], high=values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median=median, low=low, high=high)

    @classmethod
    def of_ratios(cls, above: Sequence[float], below: Sequence[float]) -> Spread:
        """The spread of the pairs' ratios: what slows both of a pair does not show."""
        return cls.of([a / b for a, b in zip(above, below, strict=True)])

    def cells(self, *, factor: float = 1.0, digits: int = 3) -> tuple[str, str]:
        """``1.036`` and ``1.032 .. 1.046``, multiplied by the factor."""
        low, high = self.low * factor, self.high * factor
        return f"{self.median * factor:.{digits}f}", f"{low:.{digits}f} .. {high:.{digits}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Seconds of each way in each round."""

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]
    """Figures of the process's processor time, which other load on the machine hardly changes."""


def time_by_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, *, warmup: int = 1
) -> Turns:
    """Seconds of each way in each round.

    Every way is timed in every round, in an order that turns by one from round to round: a machine
    that slows down or warms up slows all of them.

    Args:
        ways: what to time; each must have finished its work when it returns.
        rounds: how often.
        warmup: rounds before those, which do not count.
    """
    names = list(ways)
    turns = Turns(wall={name: [] for name in names}, cpu={name: [] for name in names})
    for number in range(-warmup, rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            wall, cpu = time.perf_counter(), time.process_time()
            ways[name]()
            if number >= 0:
                turns.wall[name].append(time.perf_counter() - wall)
                turns.cpu[name].append(time.process_time() - cpu)
    return turns


def check_rounds(rounds: int, batch_size: int) -> None:
    """Checks that there is something to measure.

    Raises:
        ConfigError: fewer than 2 rounds or no image.
    """
    if rounds < 2 or batch_size < 1:
        raise ConfigError(
            f"a bench needs at least 2 rounds of at least 1 image, got {rounds} of {batch_size}"
        )
