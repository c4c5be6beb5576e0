"""Stopping in order: the first SIGTERM or Ctrl-C drains, the second aborts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SECONDS_TILL_ASKED_AGAIN = 0.05


class Interrupted(BaseException):
    """The run was stopped by a signal; everything that was published stays valid.

    Like KeyboardInterrupt it is no Exception: nothing that guards a sample may swallow it.
    """

    def __init__(self, signal_number: int) -> None:
        """``exit_code`` follows the shell's rule, 128 + signal."""
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


class Drain:
    """Whether the run was asked to stop, and until when open shards may be finished."""

    def __init__(
        self, seconds: float, say: Callable[[str], None], work: str = "the open shards"
    ) -> None:
        """``seconds`` is the time that the work in flight gets after the first signal."""
        self._seconds = seconds
        self._say = say
        self._work = work
        self._signal: int | None = None
        self._deadline = float("inf")

    @property
    def asked(self) -> bool:
        """No new shard may be begun."""
        return self._signal is not None

    def check(self) -> None:
        """Raises `Interrupted` once the time for draining is over."""
        if self._signal is not None and time.monotonic() >= self._deadline:
            raise Interrupted(self._signal)

    def finish(self) -> None:
        """Raises `Interrupted` if a signal came; called when nothing is open any more."""
        if self._signal is not None:
            raise Interrupted(self._signal)

    def on_signal(self, number: int, frame: FrameType | None = None) -> None:
        """First signal: drain. Second: `Interrupted` at once."""
        if self._signal is not None:
            interrupt(number, frame)
            return
        self._signal = number
        self._deadline = time.monotonic() + self._seconds
        name = signal.Signals(number).name
        limit = "" if self._seconds == float("inf") else f", at most {self._seconds:g} s"
        self._say(
            f"{name}: finishing {self._work}{limit}; a second one stops at once. The same command "
            "goes on from here."
        )


@contextmanager
def drain_on_signals(
    seconds: float, say: Callable[[str], None], work: str = "the open shards"
) -> Iterator[Drain]:
    """A `Drain` that SIGTERM and SIGINT drive while the block lasts (in the main thread)."""
    drain = Drain(seconds, say, work)
    with signals_to(drain.on_signal):
        yield drain


def interrupt(number: int, frame: FrameType | None = None) -> None:
    """Raises `Interrupted`, once no extension module is being loaded.

    For work of which nothing is worth finishing. Extensions run Python while they load, and an
    exception there ends the process with an abort (matplotlib's fonts) or is swallowed, so that
    the command goes on (NumPy within PyTorch).
    """
    if not _loads_extension(frame):
        raise Interrupted(number)
    again = threading.Timer(_SECONDS_TILL_ASKED_AGAIN, signal.raise_signal, [number])
    again.daemon = True
    again.start()


def _loads_extension(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_qualname.startswith("ExtensionFileLoader."):
            return True
        frame = frame.f_back
    return False


@contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Hands SIGTERM and SIGINT to the handler while the block lasts (in the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, handler) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
