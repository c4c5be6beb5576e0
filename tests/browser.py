"""A real headless Chromium for tests of pages: the fixtures `browser` and `open_page`.

Registered as a plugin in ``tests/conftest.py``. Every page that `open_page` opens is watched: at
the end of the test, an error on its console, an exception in its scripts, a resource that failed to
load, or a request to anywhere but where the page came from fails the test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # names resolve to nothing: what a page asks of the world fails, with or without a network
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)
OWN_SCHEMES = ("data", "blob", "about")


# no slots: playwright keeps a note on the object whose method it calls
@dataclass
class Watched:
    """A page and what went wrong on it."""

    page: Page
    origin: str
    """Where it came from: ``http://127.0.0.1:8000``, or the URL itself of a file."""
    errors: list[str] = field(default_factory=list)
    """Errors and warnings of the console, exceptions."""
    strangers: list[str] = field(default_factory=list)
    """Requests to anywhere but the origin."""
    expected: list[str] = field(default_factory=list)
    """Texts of errors that the test provokes: an error that holds one of them is none."""

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"console {message.type}: {message.text}")

    def on_exception(self, error: object) -> None:
        self.errors.append(f"exception: {error}")

    def on_request(self, request: Request) -> None:
        if urlsplit(request.url).scheme not in OWN_SCHEMES and origin(request.url) != self.origin:
            self.strangers.append(request.url)

    def check(self) -> None:
        """Fails the test if anything was seen."""
        errors = [one for one in self.errors if not any(text in one for text in self.expected)]
        assert not errors, errors
        assert not self.strangers, f"the page asked other places: {self.strangers}"


def origin(url: str) -> str:
    """Scheme, host and port; the whole URL without its fragment for a file."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return parts._replace(fragment="", query="").geturl()
    return f"{parts.scheme}://{parts.netloc}"


def find_chromium() -> str | None:
    """The program that ``OVAMGEN_CHROMIUM`` names, or the first Chromium on the path."""
    if named := os.environ.get("OVAMGEN_CHROMIUM"):
        return named
    return next((found for name in NAMES if (found := shutil.which(name))), None)


# of a module, not of the session: while playwright is open its event loop counts as running in this
# thread, and asyncio.run in any other test would refuse to start
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium with a new profile for the tests of a module; skips where there is none."""
    program = find_chromium()
    if program is None:
        pytest.skip(f"needs a Chromium ({', '.join(NAMES)} on the path, or OVAMGEN_CHROMIUM)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens a URL in a window of its own: ``open_page(url, width=, height=, dark=, **options)``.

    ``options`` are those of playwright's ``new_context``: ``java_script_enabled``, ``has_touch``.
    """
    opened: list[tuple[BrowserContext, Watched]] = []

    def open_it(
        url: str, *, width: int = 1280, height: int = 800, dark: bool = False, **options: Any
    ) -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            **options,
        )
        context.set_default_timeout(30_000)
        watched = Watched(context.new_page(), origin(url))
        opened.append((context, watched))
        watched.page.on("console", watched.on_console)
        watched.page.on("pageerror", watched.on_exception)
        watched.page.on("request", watched.on_request)
        watched.page.goto(url)
        return watched

    yield open_it
    for context, _ in opened:
        context.close()
    for _, watched in opened:
        watched.check()
