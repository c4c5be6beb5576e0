import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.masks.iou import FINE_TAUS
from ovamgen.tokens.iou import index_of, map_counts, mean_iou, total


def test_a_case_done_by_hand():
    raw = np.array([[1, 2, 3, 4]], np.float32)  # 0.25 0.5 0.75 1
    mask = np.array([[False, False, True, True]])
    counts = map_counts(raw, mask)
    assert counts.at(0.2) == 2 / 4
    assert counts.at(0.5) == 1.0  # a score of 0.5 is not above 0.5
    assert counts.at(0.8) == 1 / 2
    assert counts.best() == (0.5, 1.0)


def test_classes_sum_pixels_and_the_mean_is_over_classes():
    small = map_counts(np.array([[0, 1]], np.float32), np.array([[False, True]]))
    large = map_counts(np.ones((1, 8), np.float32), np.arange(8)[None] < 4)
    together = total([small, large])
    assert together.at(0.5) == 5 / 9
    assert mean_iou([small, large])[index_of(0.5)] == pytest.approx((1 + 4 / 8) / 2)


def test_a_map_of_zeros_claims_nothing():
    counts = map_counts(np.zeros((2, 2), np.float32), np.ones((4, 4), bool))
    assert (counts.intersections == 0).all()
    assert (counts.unions == 16).all()


@given(st.integers(0, 2**32 - 1))
def test_counting_by_sorting_is_counting(seed):
    draws = np.random.default_rng(seed)
    raw = draws.integers(0, 5, (3, 4)).astype(np.float32)
    raw[0, 0] = 4  # some map
    mask = draws.random((3, 4)) < 0.4
    counts = map_counts(raw, mask)
    for index, tau in enumerate(FINE_TAUS):
        claimed = raw / raw.max() > tau
        assert counts.intersections[index] == (claimed & mask).sum()
        assert counts.unions[index] == (claimed | mask).sum()
