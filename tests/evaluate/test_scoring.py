"""Ten pixels by hand, an independent count on random masks, and the properties of intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovamgen.classes.loading import default_classes
from ovamgen.evaluate.scoring import Counts, best_tau, iou_table, miou_difference, miou_over_tau
from ovamgen.masks.iou import TAUS, count_pixels, sweep_pixels
from tests.voc import VOC_CLASSES

CAT, DOG = 8, 12


def row(*values):
    return np.array([values], np.uint8)


def counts(*rows):
    """Rows of (key, class id, included, intersection, union)."""
    keys, ids, included, hits, unions = zip(*rows, strict=True) if rows else ((),) * 5
    return Counts(
        classes=default_classes(),
        keys=tuple(keys),
        class_ids=np.array(ids, np.int64),
        included=np.array(included, bool),
        intersections=np.array(hits, np.int64),
        unions=np.array(unions, np.int64),
    )


def test_ten_pixels_by_hand():
    truth = row(0, 0, CAT, CAT, CAT, CAT, DOG, DOG, 0, 0)
    mask = row(0, 1, 1, 1, 0, 0, 1, 0, 0, 0).astype(bool)
    assert count_pixels(mask, truth, CAT) == (2, 6)
    assert count_pixels(mask, truth, DOG) == (1, 5)


def test_255_counts_in_neither():
    truth = row(255, 255, CAT, CAT, 255, 0, 0, 0, 0, 0)
    mask = row(1, 0, 1, 0, 1, 1, 0, 0, 0, 0).astype(bool)
    assert count_pixels(mask, truth, CAT) == (1, 3)
    scores = mask.astype(np.float32)
    hits, unions = sweep_pixels(scores, truth, CAT, [0.5])
    assert (hits.tolist(), unions.tolist()) == ([1], [3])


@pytest.mark.parametrize(
    ("truth", "mask", "expected"),
    [
        ([0, 0, 0, 0], [1, 1, 0, 0], (0, 2)),  # empty truth
        ([CAT, CAT, 0, 0], [0, 0, 0, 0], (0, 2)),  # empty prediction
        ([0, 0, 0, 0], [0, 0, 0, 0], (0, 0)),  # both
        ([255, 255, 255, 255], [1, 1, 1, 1], (0, 0)),  # nothing is known
    ],
)
def test_empty_sides(truth, mask, expected):
    assert count_pixels(row(*mask).astype(bool), row(*truth), CAT) == expected


def test_a_table_by_hand():
    """Cat: (2 + 3) / (6 + 4) = 0.5. Dog: 1 / 5. Mean 0.35, overall 6 / 15 = 0.4."""
    table = iou_table(
        counts(("a", CAT, 1, 2, 6), ("b", CAT, 0, 3, 4), ("a", DOG, 1, 1, 5)), draws=50
    )
    assert {name: found.value for name, found in table.per_class.items()} == {
        "cat": 0.5,
        "dog": 0.2,
    }
    assert table.miou.value == pytest.approx(0.35)
    assert table.overall.value == pytest.approx(0.4)
    assert (table.pictures, table.rows) == (2, 3)
    assert len(table.absent) == 18
    assert "person" in table.absent


def test_classes_without_a_pixel_are_absent_and_not_zero():
    """An empty truth with an empty mask says nothing; an empty truth with a mask is a miss."""
    table = iou_table(counts(("a", CAT, 1, 5, 5), ("b", DOG, 1, 0, 0)), draws=20)
    assert list(table.per_class) == ["cat"]
    assert "dog" in table.absent
    assert table.miou.value == 1.0
    table = iou_table(counts(("a", CAT, 1, 5, 5), ("b", DOG, 1, 0, 3)), draws=20)
    assert table.per_class["dog"].value == 0.0
    assert table.miou.value == 0.5


def test_no_rows_at_all():
    table = iou_table(counts())
    assert table.miou is None
    assert table.overall is None
    assert len(table.absent) == 20
    assert table.to_json()["miou"] is None


def test_splits_by_word():
    rows = counts(("a", CAT, 1, 2, 4), ("b", CAT, 0, 1, 4), ("c", CAT, 0, 2, 4))
    assert iou_table(rows.select(rows.included), draws=9).miou.value == 0.5
    assert iou_table(rows.select(~rows.included), draws=9).miou.value == 3 / 8


def test_ious_of_rows():
    found = counts(("a", CAT, 1, 2, 4), ("b", CAT, 1, 0, 0)).ious()
    assert found[0] == 0.5
    assert np.isnan(found[1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_sweep_is_thresholding_one_by_one(seed):
    """Against plain Python over single pixels."""
    generator = np.random.default_rng(seed)
    truth = generator.choice([0, CAT, DOG, 255], size=(4, 6)).astype(np.uint8)
    # some scores lie exactly on thresholds: only what is above them counts
    scores = generator.choice([0.0, 0.05, 0.5, 0.95, 1.0, *generator.random(4)], size=(4, 6))
    scores = scores.astype(np.float32)
    hits, unions = sweep_pixels(scores, truth, CAT)
    for place, tau in enumerate(TAUS):
        expected_hits = expected_union = 0
        for value, label in zip(scores.ravel(), truth.ravel(), strict=True):
            if label == 255:
                continue
            claimed, wanted = bool(value > np.float32(tau)), label == CAT
            expected_hits += claimed and wanted
            expected_union += claimed or wanted
        assert (hits[place], unions[place]) == (expected_hits, expected_union)
        assert count_pixels(scores > np.float32(tau), truth, CAT) == (hits[place], unions[place])


def test_miou_over_tau_and_its_best():
    rows = counts(("a", CAT, 1, 0, 0), ("a", DOG, 1, 0, 0))
    hits = np.array([[1, 2, 0], [3, 3, 0]], np.int64)
    unions = np.array([[4, 4, 4], [6, 4, 4]], np.int64)
    mious = miou_over_tau(rows, hits, unions)
    np.testing.assert_allclose(mious, [(1 / 4 + 3 / 6) / 2, (2 / 4 + 3 / 4) / 2, 0])
    assert best_tau(mious, [0.2, 0.4, 0.8], 0.8) == 0.4
    assert best_tau(np.array([0.5, 0.1, 0.5]), [0.2, 0.4, 0.8], 0.7) == 0.8
    assert best_tau(np.array([np.nan, np.nan]), [0.2, 0.4], 0.3) == 0.3


def random_rows(seed, pictures=30, better=0):
    generator = np.random.default_rng(seed)
    unions = generator.integers(20, 60, pictures)
    hits = (unions * generator.uniform(0.2, 0.7, pictures)).astype(int) + better
    return counts(
        *[(f"{i:03d}", i % 3 + 1, 1, hits[i], unions[i]) for i in range(pictures)],
    )


def test_intervals_are_those_of_a_plain_bootstrap():
    rows = random_rows(1)
    table = iou_table(rows, draws=4000, seed=3)
    generator = np.random.default_rng(99)
    mious = []
    for _ in range(4000):
        chosen = generator.integers(0, 30, 30)
        values = []
        for class_id in (1, 2, 3):
            of_class = chosen[rows.class_ids[chosen] == class_id]
            values.append(rows.intersections[of_class].sum() / rows.unions[of_class].sum())
        mious.append(np.mean(values))
    low, high = np.quantile(mious, [0.025, 0.975])
    assert table.miou.low == pytest.approx(low, abs=0.006)
    assert table.miou.high == pytest.approx(high, abs=0.006)
    assert table.miou.low < table.miou.value < table.miou.high
    assert iou_table(rows, draws=100, seed=3) == iou_table(rows, draws=100, seed=3)
    assert iou_table(rows, draws=100, seed=3) != iou_table(rows, draws=100, seed=4)


def test_one_picture_has_no_spread():
    found = iou_table(counts(("a", CAT, 1, 1, 4))).miou
    assert (found.low, found.value, found.high) == (0.25, 0.25, 0.25)


def test_differences_are_paired():
    """Five pixels more in every picture: a narrow interval around a sure gain."""
    first, second = random_rows(1), random_rows(1, better=5)
    gain = miou_difference(first, second)
    both = iou_table(second).miou.value - iou_table(first).miou.value
    assert gain.value == pytest.approx(both)
    assert gain.low > 0
    spread = iou_table(first).miou
    assert gain.high - gain.low < (spread.high - spread.low) / 2


def test_differences_are_of_shared_rows():
    first = counts(("a", CAT, 1, 1, 4), ("b", CAT, 1, 4, 4))
    second = counts(("a", CAT, 1, 2, 4), ("c", CAT, 1, 0, 4))
    assert miou_difference(first, second).value == 0.25
    assert miou_difference(first, counts(("c", CAT, 1, 0, 4))) is None


def test_thresholds():
    assert TAUS[0] == 0.05
    assert TAUS[-1] == 0.95
    assert len(TAUS) == 19
    assert len(VOC_CLASSES) == 20
