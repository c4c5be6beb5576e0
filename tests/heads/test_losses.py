"""The losses by hand; the published numbers are in tests/attribution/test_golden_heads_training."""

import math

import pytest
import torch

from ovamgen.attribution.heads.datasetdm import QueryMasks
from ovamgen.heads.losses import (
    POINTS,
    datasetdm_loss,
    grounded_terms,
    matching_costs,
    sample_points,
    uncertain_points,
)


def points(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda count: torch.rand(count, 2, generator=generator)


def test_a_class_costs_the_mean_over_the_pixels_that_are_known():
    logits = torch.tensor([[[0.0, 100.0]], [[0.0, 100.0]]])
    targets = torch.tensor([[[True, True]], [[True, False]]])
    terms = grounded_terms(logits, targets)
    torch.testing.assert_close(terms, torch.tensor([math.log(2) / 2, (math.log(2) + 100) / 2]))
    known = torch.tensor([[True, False]])
    terms = grounded_terms(logits, targets, known)
    torch.testing.assert_close(terms, torch.full((2,), math.log(2)))
    assert grounded_terms(logits, targets, ~known & known).tolist() == [0.0, 0.0]


def test_points_are_x_then_y_and_fade_at_the_border():
    maps = torch.zeros(1, 4, 8)
    maps[0, 1, 6] = 1.0
    # the centre of row 1 of 4, column 6 of 8
    centre = torch.tensor([[6.5 / 8, 1.5 / 4], [1.5 / 4, 6.5 / 8]])
    assert sample_points(maps, centre)[0].tolist() == [1.0, 0.0]
    border = sample_points(torch.ones(1, 4, 4), torch.tensor([[0.0, 0.5], [0.125, 0.5]]))
    assert border[0].tolist() == [0.5, 1.0]


def said(masks, classes):
    return QueryMasks(classes=torch.tensor(classes), masks=masks)


def test_the_query_with_the_objects_mask_is_matched_and_a_perfect_one_costs_nothing():
    target = torch.zeros(32, 32, dtype=torch.bool)
    target[8:24, 4:20] = True
    right = torch.where(target, 50.0, -50.0)
    masks = torch.stack([-right, right, torch.zeros(32, 32)])
    classes = [[0.0, 0.0, 50.0], [0.0, 50.0, 0.0], [0.0, 0.0, 50.0]]
    costs = matching_costs(said(masks, classes), target, points()(POINTS))
    assert int(costs.total.argmin()) == 1
    assert costs.masks[2] == pytest.approx(math.log(2), rel=1e-4)
    loss = datasetdm_loss(said(masks, classes), target, points())
    assert int(loss.query) == 1
    assert float(loss.classes) < 1e-6
    # the uncertain points are those between two pixels at the edge, which see both sides
    assert float(loss.dice) < 0.15
    wrong = datasetdm_loss(said(-masks[:1], classes[:1]), target, points())
    assert float(wrong.classes) == pytest.approx(50.0)


def test_no_object_weighs_a_tenth():
    target = torch.ones(8, 8, dtype=torch.bool)
    masks = torch.stack([torch.full((8, 8), 50.0), torch.full((8, 8), -50.0)])
    # the first one is certain and right, the second one has even odds
    loss = datasetdm_loss(said(masks, [[0.0, 50.0, 0.0], [0.0, 0.0, 0.0]]), target, points())
    assert float(loss.classes) == pytest.approx(0.1 * math.log(3) / 1.1, rel=1e-5)


def test_three_quarters_of_the_points_are_the_least_certain_ones():
    mask = torch.linspace(-5, 5, 64).expand(64, 64)
    chosen = uncertain_points(mask, points())
    assert len(chosen) == POINTS
    sure = (chosen[:, 0] - 0.5).abs()
    # 9408 of 37632 uniform points lie within an eighth of the middle (but for the outermost rows,
    # which fade), the others anywhere
    assert float(sure[:9408].quantile(0.95)) == pytest.approx(0.12, abs=0.01)
    assert float(sure[9408:].mean()) == pytest.approx(0.25, abs=0.01)


def test_gradients_do_not_flow_through_the_choice_of_points():
    masks = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    classes = torch.zeros(2, 3, requires_grad=True)
    target = torch.zeros(8, 8, dtype=torch.bool)
    target[:4] = True
    loss = datasetdm_loss(QueryMasks(classes=classes, masks=masks), target, points())
    loss.total.backward()
    assert torch.isfinite(masks.grad).all()
    other = 1 - int(loss.query)
    assert not masks.grad[other].any()
    assert masks.grad[int(loss.query)].any()
    assert classes.grad.abs().sum(1).gt(0).all()
