"""The paper's figures as they were copied: means must come out of their own columns."""

import numpy as np
import pytest

from ovamgen.evaluate.paper import S1_METHODS, paper_results
from ovamgen.evaluate.tables import SPLITS
from tests.voc import VOC_CLASSES


def test_every_row_has_a_figure_for_every_class():
    assert len(paper_results().rows) == 16
    for row in paper_results().rows:
        assert len(row.iou) == len(VOC_CLASSES)
        assert all(0 <= value <= 100 for value in row.iou)


@pytest.mark.parametrize(
    "row", paper_results().rows, ids=lambda row: f"{row.data}-{row.title}-{row.tokens}"
)
def test_the_mean_of_the_columns_is_the_printed_one(row):
    """A digit copied wrongly would show: rounding of 20 figures moves a mean by at most 0.05."""
    assert np.mean(row.iou) == pytest.approx(row.miou, abs=0.1)


def test_rows_are_found_by_our_names():
    assert paper_results().miou("VOC-sim", "ovam", "tokens") == 82.5
    assert paper_results().miou("COCO-cap", "daam-ovam", "words") == 48.4
    assert paper_results().miou("VOC-sim", "daam", "words") is None
    assert paper_results().miou("VOC-sim", "attn2mask", "words") is None
    assert "2403.14291" in paper_results().source


def test_table_s2_agrees_with_the_notebooks():
    """Both have COCO-cap by words: the eleven columns of one are among the twenty of the other."""
    paper = paper_results()
    names = [entry.name for entry in VOC_CLASSES]
    for method in S1_METHODS:
        row, whole = paper.s2(method, "all"), paper.row("COCO-cap", method, "words")
        assert row.iou == tuple(whole.iou[names.index(name)] for name in paper.selected)
        assert row.miou == whole.miou
        assert len({paper.s2(method, split).iou for split in SPLITS}) == 3


def test_table_s1_has_every_method_by_words_and_by_tokens():
    paper = paper_results()
    assert len(paper.selected) == 11
    assert [(row.method, row.tokens) for row in paper.table_s1] == [
        (method, tokens) for method in S1_METHODS for tokens in ("words", "tokens")
    ]
    assert all(len(row.iou) == 11 for row in (*paper.table_s1, *paper.table_s2))
    assert paper.s1("ovam", "tokens").miou == 36.1
    assert paper.s1("attn2mask", "tokens") is None
