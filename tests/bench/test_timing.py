import itertools

import pytest

from ovamgen.bench import timing
from ovamgen.bench.timing import Spread, time_by_turns


def test_spread_by_hand():
    spread = Spread.of([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (spread.low, spread.median, spread.high) == (2.0, 3.0, 4.0)
    # quartiles of two values stay between them
    assert Spread.of([1.0, 2.0]) == Spread(median=1.5, low=1.25, high=1.75)
    assert Spread.of([7.0]) == Spread(median=7.0, low=7.0, high=7.0)
    assert Spread.of_ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]).median == 2.0
    assert spread.cells(factor=10.0, digits=1) == ("30.0", "20.0 .. 40.0")


def test_ways_take_turns(monkeypatch):
    wall, cpu = itertools.count(), itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(wall) * 0.5)
    monkeypatch.setattr(timing.time, "process_time", lambda: next(cpu) * 0.25)
    order = []
    ways = {name: (lambda name=name: order.append(name)) for name in "abc"}
    turns = time_by_turns(ways, 3)
    assert "".join(order) == "cab" + "abc" + "bca" + "cab"
    assert turns.wall == {name: [0.5] * 3 for name in "abc"}
    assert turns.cpu == {name: [0.25] * 3 for name in "abc"}


def test_a_slow_round_does_not_show_in_ratios():
    assert Spread.of_ratios([1.1, 11.0, 2.2], [1.0, 10.0, 2.0]).median == pytest.approx(1.1)
