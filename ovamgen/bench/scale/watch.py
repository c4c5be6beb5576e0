"""What this process costs while it works, looked at again and again by a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

import psutil  # type: ignore[import-untyped]  # ships no types


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look."""

    at: float
    """time.monotonic()"""
    resident_bytes: int
    private_bytes: int
    """Without what is shared or mapped from files, which the system can take back."""
    process_seconds: float
    """Processor time of all threads."""
    thread_seconds: float
    """Processor time of the thread that began the watch."""
    others: Mapping[str, float]
    """What the caller wanted to know as well, by name."""


class Watch:
    """A context manager: looks while its block lasts."""

    def __init__(
        self, every_seconds: float = 0.25, others: Callable[[], Mapping[str, float]] | None = None
    ) -> None:
        """``others`` is asked at each look, in the thread of the watch."""
        self.looks: list[Look] = []
        self._every = every_seconds
        self._others = others or dict
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._clock = time.pthread_getcpuclockid(threading.get_ident())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops looking."""
        self._ended.set()
        self._thread.join()

    def peak(self, name: str) -> int:
        """The most bytes that were seen of ``resident_bytes`` or ``private_bytes``."""
        return max(getattr(look, name) for look in self.looks)

    def within(self, begin: float, end: float) -> list[Look]:
        """The looks of an interval, in their order."""
        return [look for look in self.looks if begin <= look.at <= end]

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            memory, times = process.memory_info(), process.cpu_times()
            self.looks.append(
                Look(
                    at=time.monotonic(),
                    resident_bytes=memory.rss,
                    private_bytes=memory.rss - getattr(memory, "shared", 0),
                    process_seconds=times.user + times.system,
                    thread_seconds=time.clock_gettime(self._clock),
                    others=self._others(),
                )
            )
            if self._ended.wait(self._every):
                return
