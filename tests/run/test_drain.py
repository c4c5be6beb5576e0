"""Stopping in order: real signals, sent to this process."""

import os
import signal
import threading

import pytest

from ovamgen.run.drain import Drain, Interrupted, drain_on_signals


def test_the_first_signal_drains_and_the_second_stops():
    said = []
    before = signal.getsignal(signal.SIGTERM)
    with drain_on_signals(60.0, said.append) as drain:
        drain.check()
        assert not drain.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert drain.asked
        drain.check()  # time is left
        assert said[0].startswith("SIGTERM: finishing the open shards, at most 60 s")
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.exit_code == 143
        with pytest.raises(Interrupted):
            drain.finish()
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_ends_with_130_once_its_time_is_over():
    with drain_on_signals(0.0, lambda text: None) as drain:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            drain.check()
    assert caught.value.exit_code == 130


def test_nothing_is_stopped_when_nothing_was_asked():
    drain = Drain(1.0, print)
    drain.check()
    drain.finish()
    assert not drain.asked


def test_outside_the_main_thread_handlers_stay_as_they_are():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def body():
        with drain_on_signals(1.0, print) as drain:
            seen.append((drain.asked, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


def test_an_interruption_is_not_swallowed_by_what_guards_samples():
    assert not issubclass(Interrupted, Exception)
