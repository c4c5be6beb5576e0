"""Pages and sheets about a corpus of other classes than VOC's."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import built_in, default_classes
from ovamgen.report.corpus import read_corpus
from ovamgen.report.page import render_page
from ovamgen.report.panels import CLASS_COLOURS, class_colours, mask_overlay
from ovamgen.report.statistics import Statistics, gather
from ovamgen.report.write import write_report
from ovamgen.storage.store import open_store
from tests.own_classes import COLOURS, YARD, yard

__all__ = ["yard"]


@pytest.fixture(scope="module")
def html(yard, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_report(str(yard), str(path))
    return path.read_text()


def rows_of(html):
    """Text of the first cell of each row of the table of classes."""
    table = html.partition('id="classes"')[2].partition("</table>")[0]
    cells = re.findall(r'<th scope="row">(.*?)</th>', table)
    return [" ".join(re.sub("<[^>]*>", " ", cell).split()) for cell in cells]


def test_the_page_has_the_ids_names_and_colours_of_the_set(html):
    assert "PASCAL" not in html
    assert "mask of the classes of <b>yard</b> it shows" in html
    assert "3 <small>of 3</small>" in html
    assert rows_of(html) == ["forklift 1", "wooden pallet 7 pallet", "vehicle 254"]
    for red, green, blue in COLOURS.values():
        assert f"rgb({red},{green},{blue})" in html
    assert "0 background, 1, 7, 254 in the order of the table above, 255 left out" in html
    assert '<option value="254">vehicle</option>' in html


def test_the_contact_sheet_has_the_colours_of_the_set(yard):
    with Image.open(io.BytesIO((yard / "contact_sheet.png").read_bytes())) as sheet:
        seen = {colour for _, colour in sheet.convert("RGB").getcolors(10**6)}
    assert set(COLOURS.values()) <= seen, "swatches beside the names"


def test_a_mask_is_painted_in_the_colours_of_the_set():
    colours = class_colours(YARD)
    assert {label: tuple(colours[label].tolist()) for label in COLOURS} == COLOURS
    labels = np.full((8, 8), 254, np.uint8)
    panel = mask_overlay(np.zeros((8, 8, 3), np.uint8), labels, colours)
    expected = np.rint(np.array(COLOURS[254]) * 0.66 + 12 * 0.34)
    np.testing.assert_array_equal(panel[4, 4], expected)


def test_colours_that_a_set_does_not_give_are_told_apart_and_no_grey():
    voc = class_colours(default_classes())
    assert [f"#{bytes(rgb).hex()}" for rgb in voc[1:21].tolist()] == list(CLASS_COLOURS)
    drawn = class_colours(built_in("coco"))[1:81].astype(int)
    assert len(np.unique(drawn, axis=0)) == 80
    assert (np.ptp(drawn, axis=1) > 60).all()


def test_a_large_set_has_rows_for_what_was_planned(yard):
    """100 classes, 97 of which nobody asked for."""
    others = [{"id": label, "name": f"thing{label}x"} for label in range(100, 197)]
    many = ClassSet.from_record(
        {"name": "many", "classes": [*YARD.as_record()["classes"], *others]}
    )
    store = open_store(str(yard))
    corpus = replace(read_corpus(store), classes=many)
    html = render_page(corpus, gather(store, corpus.records, many), [])
    assert rows_of(html) == ["forklift 1", "wooden pallet 7 pallet", "vehicle 254"]
    assert "97 more classes that nothing was planned of" in html
    assert "thing196x" in html


def test_a_plan_alone_and_a_copy_of_the_shards_know_the_classes(yard, tmp_path):
    for name in ("plan.parquet", "manifest.json"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes((yard / name).read_bytes())
        if name == "manifest.json":
            for path in [*yard.glob("*.tar"), *yard.glob("m*/*")]:
                (folder / path.relative_to(yard)).parent.mkdir(exist_ok=True)
                (folder / path.relative_to(yard)).write_bytes(path.read_bytes())
        corpus = read_corpus(open_store(str(folder)))
        assert corpus.classes == YARD
        assert rows_of(render_page(corpus, Statistics.of(YARD), []))[0] == "forklift 1"
