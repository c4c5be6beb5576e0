"""Links of the README, docs and the notebook lead somewhere, and every page is on the site."""

import itertools
import json
import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.conftest import REPOSITORY

GENERATED = {"docs/commands.md"}
"""Pages that exist on the site alone."""
PAGES = sorted(
    {
        *(path.name for path in REPOSITORY.glob("*.md")),
        *(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("docs/**/*.md")),
        "ovamgen/mini/model/README.md",
        "recipes/mini/README.md",
        "docs/quickstart.ipynb",
    }
)


def markdown_of(page):
    text = (REPOSITORY / page).read_text("utf-8")
    if not page.endswith(".ipynb"):
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def tokens_of(page):
    return MarkdownIt("commonmark").enable("table").parse(markdown_of(page))


def targets(page):
    """What a page links to or shows, fragments included."""
    for block in tokens_of(page):
        for token in block.children or ():
            if target := token.attrGet("href") or token.attrGet("src"):
                yield target


def anchors(page):
    """The fragments of a page's headings, as GitHub and the site make them."""
    blocks = tokens_of(page)
    for opening, text in itertools.pairwise(blocks):
        if opening.type == "heading_open":
            words = "".join(t.content for t in text.children if t.type in ("text", "code_inline"))
            yield re.sub(r"[^\w -]", "", words.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in targets(page):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme in ("http", "https", "mailto"), target
            continue
        where = REPOSITORY / PurePosixPath(page).parent / unquote(parts.path)
        file = (where if parts.path else REPOSITORY / page).resolve()
        assert file.is_relative_to(REPOSITORY), f"{target} leaves the repository"
        # folders have pages on a forge, and none on the site
        assert file.is_file() or str(file.relative_to(REPOSITORY)) in GENERATED, target
        if parts.fragment:
            assert parts.fragment in anchors(str(file.relative_to(REPOSITORY))), target


def leaves(entries):
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else leaves(value)


def test_every_page_has_a_place_in_the_navigation():
    listed = list(leaves(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text("utf-8"))["nav"]))
    assert len(listed) == len(set(listed))
    assert set(listed) == {*PAGES, *GENERATED}, "nav of mkdocs.yml"
