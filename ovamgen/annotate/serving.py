"""Serves a folder on loopback until somebody presses Ctrl-C, and says what was annotated."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from ovamgen.annotate.annotations import Annotations, Counts
from ovamgen.annotate.server import build_app
from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import ANNOTATIONS, SampleFolder

LOOPBACK = "127.0.0.1"
_SHUTDOWN_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """What one session of painting came to."""

    counts: Counts
    changed: int
    """Samples that were changed in this time."""
    annotations: Path

    def lines(self) -> list[str]:
        """The summary, a line per fact."""
        counts = self.counts
        return [
            f"annotated      {counts.annotated} of {counts.total}, {self.changed} changed now",
            f"left out       {counts.left_out}",
            f"to do          {counts.to_do}",
            f"annotations    {self.annotations}",
        ]


def annotate(
    folder: SampleFolder,
    *,
    port: int = 0,
    announce: Callable[[str], None],
    stop: threading.Event | None = None,
) -> Sitting:
    """What was annotated, once SIGINT or SIGTERM came (in the main thread) or ``stop`` was set.

    Args:
        folder: The samples.
        port: Of 127.0.0.1; 0 takes a free one.
        announce: Gets the page's address, token included, when it can be opened.
        stop: For callers that are not the main thread.

    Raises:
        ConfigError: the port cannot be had, or the annotations cannot be written.
    """
    annotations = Annotations(folder)
    place = folder.root / ANNOTATIONS
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{place} cannot be made: {error}") from None
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{place} must be a folder that can be written, it is not")
    asyncio.run(_serve(annotations, port, announce, stop or threading.Event()))
    return Sitting(counts=annotations.counts(), changed=len(annotations.changed), annotations=place)


def open_in_browser(url: str) -> bool:
    """Whether a browser was asked to show the page; not where none could be seen."""
    headless = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    # without a display webbrowser would start a text browser in this terminal
    return not headless and webbrowser.open(url)


async def _serve(
    annotations: Annotations, port: int, announce: Callable[[str], None], stop: threading.Event
) -> None:
    token = secrets.token_urlsafe(32)
    # the log of requests would hold the token
    runner = web.AppRunner(
        build_app(annotations, token), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, LOOPBACK, port).start()
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port} of {LOOPBACK} cannot be had ({error}): give another --port, or none"
            ) from None
        with _set_by_signals(stop):
            announce(f"http://{LOOPBACK}:{runner.addresses[0][1]}/{token}/")
            while not stop.is_set():
                await asyncio.sleep(0.1)
    finally:
        await runner.cleanup()


@contextmanager
def _set_by_signals(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
