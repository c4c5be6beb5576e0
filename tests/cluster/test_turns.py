"""The order in which a worker's threads take their batches."""

import threading
import time

from ovamgen.cluster.workers import Turns


def start(turns, log, turn, *, alone=False):
    """(a thread that takes the turn, what lets it end it)."""
    end = threading.Event()

    def run():
        with turns.take(turn, alone=alone):
            log.append(turn)
            end.wait(10)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, end


def test_turns_begin_in_order_and_some_of_them_alone():
    turns, log = Turns(), []
    # the thread that comes first has the last turn
    made = {2: start(turns, log, 2), 1: start(turns, log, 1, alone=True)}
    made[0] = start(turns, log, 0)
    for turn in range(3):
        thread, end = made[turn]
        # nobody enters beside the one that is alone, nor it beside the one before
        _wait_for(log, [*range(turn + 1)])
        end.set()
        thread.join()


def test_two_are_inside_where_none_is_alone():
    turns, log = Turns(), []
    threads = [start(turns, log, turn) for turn in range(2)]
    _wait_for(log, [0, 1])
    for thread, end in threads:
        end.set()
        thread.join()


def _wait_for(log, expected):
    deadline = time.monotonic() + 10
    while len(log) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log == expected
