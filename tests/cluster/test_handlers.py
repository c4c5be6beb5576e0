"""The driver's table, its pool and its caps, each alone."""

from concurrent.futures import Future

import pytest

from ovamgen.cluster.handlers import Handlers
from ovamgen.cluster.open_shards import LEAST_IN_FLIGHT_BYTES, LEAST_OPEN_SHARDS, Caps
from ovamgen.config import build_config


class Reference:
    """As much of an ObjectRef as the table knows: a future."""

    def __init__(self):
        self._future = Future()

    def future(self):
        return self._future

    def arrive(self, error=None):
        self._future.set_exception(error) if error else self._future.set_result(1)


def test_handlers_run_once_in_the_order_of_arrival():
    handlers, ran = Handlers(), []
    references = [Reference() for _ in range(3)]
    for number, reference in enumerate(references):
        handlers[reference] = lambda number=number: ran.append(number)
    handlers.run_ready(0.01)
    assert ran == []
    references[2].arrive()
    references[0].arrive(ValueError("an error is an arrival too"))
    handlers.run_ready(5.0)
    assert ran == [2, 0]
    assert list(handlers) == [references[1]]
    handlers.forget(references[1])
    references[1].arrive()
    handlers.run_ready(0.01)
    assert (ran, len(handlers)) == ([2, 0], 0)


def test_what_arrived_before_it_was_waited_for_counts():
    handlers, ran = Handlers(), []
    reference = Reference()
    reference.arrive()
    handlers[reference] = lambda: ran.append(1)
    handlers.run_ready(5.0)
    assert ran == [1]


def test_a_handler_may_wait_for_more():
    handlers, ran = Handlers(), []
    first, second = Reference(), Reference()
    second.arrive()

    def again():
        ran.append("first")
        handlers[second] = lambda: ran.append("second")

    handlers[first] = again
    first.arrive()
    handlers.run_ready(5.0)
    handlers.run_ready(5.0)
    assert ran == ["first", "second"]


@pytest.mark.parametrize(
    ("workers", "shards", "mebibytes"),
    # 8 images of 512 x 512 and 20 maps of 64 x 64 are 7.25 MiB
    [(1, LEAST_OPEN_SHARDS, 2048), (64, LEAST_OPEN_SHARDS, 2784), (1000, 49, 43_500)],
)
def test_caps_follow_the_workers(workers, shards, mebibytes):
    caps = Caps.of(build_config({"model": {"id": "mini"}}), workers)
    assert caps.open_shards == shards
    batch = 8 * (512 * 512 * 3 + 20 * 64 * 64 * 2)
    assert caps.in_flight_bytes(batch, 2**40) == mebibytes * 2**20
    assert caps.in_flight_bytes(1, 2**40) == LEAST_IN_FLIGHT_BYTES
    # a store that is too small for them all would spill to disk
    assert caps.in_flight_bytes(batch, 3 * 2**30) == 1.5 * 2**30


def test_stated_caps_stand():
    runtime = {"open_shards": 2, "in_flight_bytes": 77}
    caps = Caps.of(build_config({"model": {"id": "mini"}, "runtime": runtime}), 1000)
    assert (caps.open_shards, caps.in_flight_bytes(1 << 30, 1)) == (2, 77)
