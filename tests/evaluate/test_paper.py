"""The paper's figures as they were copied: means must come out of their own columns."""

import numpy as np
import pytest

from ovamgen.evaluate.comparison_report import paper_miou, paper_results
from tests.voc import VOC_CLASSES


def test_every_row_has_a_figure_for_every_class():
    assert len(paper_results()[1]) == 16
    for row in paper_results()[1]:
        assert len(row.iou) == len(VOC_CLASSES)
        assert all(0 <= value <= 100 for value in row.iou)


@pytest.mark.parametrize(
    "row", paper_results()[1], ids=lambda row: f"{row.data}-{row.title}-{row.tokens}"
)
def test_the_mean_of_the_columns_is_the_printed_one(row):
    """A digit copied wrongly would show: rounding of 20 figures moves a mean by at most 0.05."""
    assert np.mean(row.iou) == pytest.approx(row.miou, abs=0.1)


def test_rows_are_found_by_our_names():
    assert paper_miou("VOC-sim", "ovam", "tokens") == 82.5
    assert paper_miou("COCO-cap", "daam-ovam", "words") == 48.4
    assert paper_miou("VOC-sim", "daam", "words") is None
    assert paper_miou("VOC-sim", "attn2mask", "words") is None
    assert "2403.14291" in paper_results()[0]
