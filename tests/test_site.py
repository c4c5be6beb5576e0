"""The documentation site, built as `make docs` builds it, and looked at in a browser."""

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.timeout(600)

LOADED_BY = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
"""What a browser fetches unasked, by element."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def loaded(page):
    """What a page has a browser fetch."""
    found = []

    class Elements(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append(dict(attrs).get(LOADED_BY.get(tag, "")))

    Elements().feed(page.read_text("utf-8"))
    return [url for url in found if url]


def test_nothing_is_loaded_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert len(loaded(page)) > 3
        foreign = [url for url in loaded(page) if re.match(r"(https?:)?//", url)]
        assert not foreign, (page, foreign)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text("utf-8")), style


def test_every_command_has_its_heading_with_defaults(site):
    from typer.main import get_command

    from ovamgen.cli import app

    page = (site / "docs" / "commands" / "index.html").read_text("utf-8")
    for name, command in get_command(app).commands.items():
        for words in (name, *(f"{name} {inner}" for inner in getattr(command, "commands", ()))):
            assert f'id="ovamgen-{words.replace(" ", "-")}"' in page, words
    # what help alone looks up
    assert "[default: 30]" in page
    assert "One of auto, cpu, cuda." in page
    assert "..." not in "".join(re.findall(r"<li><code>\w+</code>: .*</li>", page))


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "path", ["/", "/docs/own-classes/", "/docs/commands/", "/docs/quickstart/"]
)
def test_pages_fit_their_window(path, width, dark, address, open_page):
    page = open_page(address + path, width=width, dark=dark).page
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_attribute("body", "data-md-color-scheme") == ("slate" if dark else "default")
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")


@pytest.mark.slow
def test_search_finds_a_key(address, open_page):
    page = open_page(address + "/").page
    page.wait_for_load_state("networkidle")
    page.click("input.md-search__input")
    page.keyboard.type("shard_size")
    page.wait_for_selector(".md-search-result__item")
    assert "plan.shard_size" in page.inner_text(".md-search-result__list")
