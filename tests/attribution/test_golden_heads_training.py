"""Losses, gradients and first optimiser steps of both heads against the published code.

In float64; the published code computes DatasetDM's cross-entropy and matching in float32 even here.
"""

import functools
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ovamgen.heads.losses import (
    datasetdm_loss,
    grounded_terms,
    matching_costs,
    uncertain_points,
)
from tests.golden import heads_reference as golden_heads

TOLERANCE = 1e-6
LEARNING_RATE = {"grounded": 1e-5, "datasetdm": 1e-4}


def golden():
    return golden_heads.arrays("training_reference")


def targets():
    """The two ellipses."""
    y, x = np.mgrid[:512, :512]
    masks = np.stack(
        [a * (y - cy) ** 2 + b * (x - cx) ** 2 < r for cy, cx, a, b, r in golden()["ellipses"]]
    )
    assert list(masks.sum((1, 2))) == list(golden()["target_pixels"])
    return torch.from_numpy(masks)


def trainable(kind):
    state = golden_heads.state_of(f"{kind}_reference")
    return golden_heads.network(kind, state, torch.float64).requires_grad_(True)


def describe(network):
    """Gradients by sorted name: norms and first entries."""
    parameters = dict(sorted(network.named_parameters()))
    norms = [float(p.grad.norm()) for p in parameters.values()]
    heads = np.zeros((len(norms), 4))
    for row, p in zip(heads, parameters.values(), strict=True):
        first = p.grad.flatten()[:4]
        row[: len(first)] = first
    return SimpleNamespace(keys=list(parameters), norms=norms, heads=heads)


def moved(network, kind):
    start = golden_heads.state_of(f"{kind}_reference")
    return [
        float((p.detach() - start[name].double()).norm())
        for name, p in sorted(network.named_parameters())
    ]


STEPS = [1, pytest.param(None, marks=golden_heads.THOROUGH, id="all")]


@functools.cache
def grounded_training(steps):
    network = trainable("grounded")
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE["grounded"])
    levels = golden_heads.levels("grounded", torch.float64)
    text = golden_heads.text("grounded", torch.float64)
    terms, gradients = [], None
    for _ in range(steps or int(golden()["grounded/steps"])):
        each = grounded_terms(network(levels, text), targets())
        optimizer.zero_grad()
        each.sum().backward()
        gradients = gradients or describe(network)
        optimizer.step()
        terms.append(each.detach().numpy())
    return SimpleNamespace(
        terms=np.array(terms), gradients=gradients, moved=moved(network, "grounded")
    )


@functools.cache
def datasetdm_training():
    network = trainable("datasetdm")
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE["datasetdm"])
    levels = golden_heads.levels("datasetdm", torch.float64)
    text = golden_heads.text("datasetdm", torch.float64)[0]
    random = golden_heads.generator(golden()["points_seed"])
    drawn = []

    def points(count):
        drawn.append(torch.from_numpy(random.random((1, count, 2)).astype(np.float32))[0])
        return drawn[-1]

    losses, queries, gradients, costs, uncertain = [], [], None, None, None
    for _ in range(int(golden()["datasetdm/steps"])):
        said = network(levels, text)[-1]
        loss = datasetdm_loss(said, targets()[0], points)
        optimizer.zero_grad()
        loss.total.backward()
        if gradients is None:
            gradients = describe(network)
            again = iter(drawn)
            costs = matching_costs(said, targets()[0], next(again).double())
            mask = said.masks[loss.query].detach()
            uncertain = uncertain_points(mask, partial(_next, again))
        optimizer.step()
        parts = (loss.classes, loss.masks, loss.dice, loss.total)
        losses.append([float(part.detach()) for part in parts])
        queries.append(int(loss.query))
    return SimpleNamespace(
        losses=losses,
        queries=queries,
        gradients=gradients,
        costs=costs,
        uncertain=uncertain,
        moved=moved(network, "datasetdm"),
    )


def _next(drawn, count):
    points = next(drawn)
    assert len(points) == count
    return points


def compare_gradients(got, kind):
    file = golden()
    assert got.keys == list(file[f"{kind}/parameter_keys"])
    golden_heads.assert_close(got.norms, file[f"{kind}/gradient_norms"], TOLERANCE, "norms")
    golden_heads.assert_close(got.heads, file[f"{kind}/gradient_heads"], TOLERANCE, "entries")


@pytest.mark.parametrize("steps", STEPS)
def test_losses_of_grounded(steps):
    file, got = golden(), grounded_training(steps)
    assert len(got.terms) == (steps or file["grounded/steps"])
    golden_heads.assert_close(got.terms, file["grounded/term_losses"][:steps], TOLERANCE, "terms")
    losses = file["grounded/losses"][:steps]
    golden_heads.assert_close(got.terms.sum(1), losses, TOLERANCE, "losses")
    missing = float(file["grounded/loss_second_class_missing"])
    assert got.terms[0, 0] == pytest.approx(missing, rel=TOLERANCE)


def test_gradients_of_grounded():
    compare_gradients(grounded_training(1).gradients, "grounded")


@golden_heads.THOROUGH
def test_steps_of_grounded():
    expected = golden()["grounded/moved_norms"]
    golden_heads.assert_close(grounded_training(None).moved, expected, TOLERANCE, "moved")


@golden_heads.THOROUGH
def test_losses_of_datasetdm():
    file, got = golden(), datasetdm_training()
    golden_heads.assert_close(got.losses, file["datasetdm/losses"], TOLERANCE, "losses")
    assert got.queries == list(file["datasetdm/matched_query"])


@golden_heads.THOROUGH
@pytest.mark.parametrize("part", ["class", "mask", "dice", "total"])
def test_matching_costs_of_datasetdm(part):
    costs = datasetdm_training().costs
    got = getattr(costs, {"class": "classes", "mask": "masks"}.get(part, part))
    expected = golden()[f"datasetdm/cost_{part}"][:, 0]
    golden_heads.assert_close(got, expected, TOLERANCE, part)


@golden_heads.THOROUGH
def test_uncertain_points_of_datasetdm():
    got = datasetdm_training().uncertain[:16]
    golden_heads.assert_close(got, golden()["datasetdm/uncertain_points"], TOLERANCE, "points")


@golden_heads.THOROUGH
def test_gradients_of_datasetdm():
    compare_gradients(datasetdm_training().gradients, "datasetdm")


@golden_heads.THOROUGH
def test_steps_of_datasetdm():
    expected = golden()["datasetdm/moved_norms"]
    golden_heads.assert_close(datasetdm_training().moved, expected, TOLERANCE, "moved")
