"""Pictures of the documentation: in all colours, small enough, and there where pages show them."""

import re

import pytest
from PIL import Image

MAX_BYTES = 500_000  # of the pre-commit hook
PAGES = ("README.md", "docs/results/mini.md")


@pytest.fixture(scope="module")
def pictures(repository):
    paths = [p for p in (repository / "docs").rglob("*") if p.suffix in (".png", ".webp", ".jpg")]
    assert len(paths) > 10
    return paths


def test_they_are_not_reduced_to_a_few_colours(pictures):
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.mode in ("RGB", "RGBA"), path
            colours = picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height)
        assert len(colours) > 1_000, path


def test_they_are_small_enough_for_a_commit(pictures):
    assert {path.name for path in pictures if path.stat().st_size > MAX_BYTES} == set()


def test_every_picture_that_a_page_shows_is_there(repository):
    for name in PAGES:
        page = repository / name
        shown = re.findall(r"\]\(([\w/.-]+\.(?:png|webp|jpg|svg))\)", page.read_text("utf-8"))
        assert shown, name
        for picture in shown:
            assert (page.parent / picture).is_file(), (name, picture)
