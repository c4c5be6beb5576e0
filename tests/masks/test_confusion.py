import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovamgen.errors import OvamgenError
from ovamgen.masks.confusion import ConfusionMatrix


def scored(truth, predicted, classes=21):
    matrix = ConfusionMatrix(classes)
    matrix.add(np.array(truth, np.uint8), np.array(predicted, np.uint8))
    return matrix.scores()


def test_ten_pixels_by_hand():
    #         truth: bg bg bg  1  1  1  2  2  x  x
    truth = [[0, 0, 0, 1, 1, 1, 2, 2, 255, 255]]
    predicted = [[0, 0, 1, 1, 1, 2, 2, 0, 1, 2]]
    scores = scored(truth, predicted)
    # 0: hits 2, union 3 + 3 - 2 = 4; 1: hits 2, union 3 + 3 - 2 = 4; 2: hits 1, union 2 + 2 - 1 = 3
    np.testing.assert_allclose(scores.iou[:3], [2 / 4, 2 / 4, 1 / 3])
    assert np.isnan(scores.iou[3:]).all()
    assert scores.miou_with_background == pytest.approx((0.5 + 0.5 + 1 / 3) / 3)
    assert scores.miou_foreground == pytest.approx((0.5 + 1 / 3) / 2)
    assert scores.pixel_accuracy == pytest.approx(5 / 8)
    assert scores.absent == list(range(3, 21))
    assert scores.only_predicted == []


def test_pixels_are_pooled_over_pictures_and_not_averaged():
    matrix = ConfusionMatrix(21)
    matrix.add(np.full((1, 10), 3, np.uint8), np.full((1, 10), 3, np.uint8))
    matrix.add(np.full((3, 10), 3, np.uint8), np.zeros((3, 10), np.uint8))
    assert matrix.scores().iou[3] == pytest.approx(10 / 40)  # the mean of pictures would be 1/2


def test_a_class_that_is_only_predicted_counts_as_zero():
    scores = scored([[0, 0, 1, 1]], [[0, 7, 1, 1]])
    assert scores.iou[7] == 0
    assert scores.only_predicted == [7]
    assert 7 not in scores.absent
    assert scores.miou_foreground == pytest.approx(0.5)


def test_nothing_but_background():
    scores = scored([[0, 0]], [[0, 0]])
    assert scores.miou_with_background == 1
    assert math.isnan(scores.miou_foreground)


def test_a_set_without_a_pixel_that_counts_has_no_score():
    with pytest.raises(OvamgenError, match="at least one pixel"):
        scored([[255]], [[0]])


@pytest.mark.parametrize(("truth", "predicted"), [([[0, 1]], [[0, 22]]), ([[21]], [[0]])])
def test_labels_that_are_no_class(truth, predicted):
    with pytest.raises(OvamgenError, match="labels must be 0 to 20"):
        scored(truth, predicted)


def slow_iou(pairs, class_id):
    """Sets of (picture, row, column), as VOC's paper has it."""
    true, found = set(), set()
    for number, (truth, predicted) in enumerate(pairs):
        for place in np.ndindex(truth.shape):
            if truth[place] == 255:
                continue
            if truth[place] == class_id:
                true.add((number, *place))
            if predicted[place] == class_id:
                found.add((number, *place))
    union = true | found
    return len(true & found) / len(union) if union else math.nan


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), pictures=st.integers(1, 3), classes=st.integers(2, 21))
def test_an_independent_implementation_agrees(seed, pictures, classes):
    generator = np.random.default_rng(seed)
    matrix = ConfusionMatrix(21)
    pairs = []
    for _ in range(pictures):
        shape = tuple(generator.integers(1, 9, 2))
        predicted = generator.integers(0, classes, shape).astype(np.uint8)
        random = generator.integers(0, classes, shape)
        truth = np.where(generator.uniform(size=shape) < 0.6, predicted, random).astype(np.uint8)
        truth[generator.uniform(size=shape) < 0.1] = 255
        pairs.append((truth, predicted))
        matrix.add(truth, predicted)
    if all((truth == 255).all() for truth, _ in pairs):
        return
    scores = matrix.scores()
    expected = [slow_iou(pairs, class_id) for class_id in range(21)]
    np.testing.assert_allclose(scores.iou, expected)
    present = [value for value in expected if not math.isnan(value)]
    assert scores.miou_with_background == pytest.approx(sum(present) / len(present))


def test_scipy_counts_the_same():
    """coo_matrix adds up repeated entries, which is a confusion matrix."""
    sparse = pytest.importorskip("scipy.sparse")
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 21, (2, 5, 30, 40)).astype(np.uint8)
    matrix = ConfusionMatrix(21)
    matrix.add(truth, predicted)
    ones = np.ones(truth.size, int)
    expected = sparse.coo_matrix((ones, (truth.ravel(), predicted.ravel())), (21, 21)).toarray()
    np.testing.assert_array_equal(matrix.counts, expected)
