"""What to do when a reference is ready; asking what has become ready costs nothing per reference.

`ray.wait` looks at every reference at each call: with a thousand workers the driver would do little
else. Here Ray tells of each reference once.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any


class Handlers:
    """The driver's table of references that are waited for; used by the driver's thread alone."""

    def __init__(self) -> None:
        self._table: dict[Any, Callable[[], None]] = {}
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._table)

    def __setitem__(self, ref: Any, handler: Callable[[], None]) -> None:
        self._table[ref] = handler
        # called by a thread of Ray's, with the value or the error: small, and read again later
        ref.future().add_done_callback(lambda _: self._arrived.put(ref))

    def forget(self, ref: Any) -> None:
        """Forgets the reference and what was to be done for it."""
        self._table.pop(ref, None)

    def run_ready(self, timeout: float) -> None:
        """Runs the handlers of what is ready; waits for the first one for at most ``timeout`` s."""
        if not self._table:
            return
        try:
            self._run(self._arrived.get(timeout=timeout))
            # what arrives from now on waits for the next call: there is work to give out
            for _ in range(self._arrived.qsize()):
                self._run(self._arrived.get_nowait())
        except queue.Empty:
            return

    def _run(self, ref: Any) -> None:
        handler = self._table.pop(ref, None)
        if handler is not None:
            handler()
