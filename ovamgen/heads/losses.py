"""What the two heads are trained with: binary cross-entropy, and Mask2Former's set loss on points.

Random points are handed in, so that a step is a function of them. It does not know where features
and masks come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    grid_sample,
    softplus,
)

from ovamgen.attribution.heads.datasetdm import QueryMasks

OBJECT = 1
"""The label of an object; 0 is never one, the last one is for no object (methods 6.5)."""
POINTS = 12544
OVERSAMPLED = 3
_UNCERTAIN = 9408
_NO_OBJECT_WEIGHT = 0.1
_CLASS_WEIGHT, _MASK_WEIGHT, _DICE_WEIGHT = 2.0, 5.0, 5.0

Points = Callable[[int], Float[Tensor, "P 2"]]
"""So many new points (x, y), even in [0, 1); asked for 12544, 37632 and 3136 a step."""


def grounded_terms(
    logits: Float[Tensor, "Q H W"],
    targets: Bool[Tensor, "Q H W"],
    known: Bool[Tensor, "H W"] | None = None,
) -> Float[Tensor, " Q"]:
    """Each class's loss: the mean binary cross-entropy over the pixels; a step takes their sum.

    Methods 5.5.

    Args:
        logits: of the queries.
        targets: the masks of their classes.
        known: pixels that count; all where not given.
    """
    each = binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none")
    if known is None:
        return each.mean((1, 2))
    return (each * known).sum((1, 2)) / known.sum().clamp(min=1)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MatchingCosts:
    """What each query would cost if it were the object's; unweighted, in float32."""

    classes: Float32[Tensor, " Q"]
    masks: Float32[Tensor, " Q"]
    dice: Float32[Tensor, " Q"]

    @property
    def total(self) -> Float32[Tensor, " Q"]:
        """The weighted sum; the query with the least is the object's."""
        return _MASK_WEIGHT * self.masks + _CLASS_WEIGHT * self.classes + _DICE_WEIGHT * self.dice


@torch.no_grad()
def matching_costs(
    said: QueryMasks, target: Bool[Tensor, "H W"], points: Float[Tensor, "P 2"]
) -> MatchingCosts:
    """Costs of all queries on one set of points (methods 6.5).

    Args:
        said: the decoder's answer.
        target: the object's mask.
        points: shared by queries and target.
    """
    logits = sample_points(said.masks, points).float()
    truth = sample_points(target[None].to(said.masks), points)[0].float()
    positive, negative = softplus(-logits), softplus(logits)
    return MatchingCosts(
        classes=-said.classes.float().softmax(1)[:, OBJECT],
        masks=(positive @ truth + negative @ (1 - truth)) / len(points),
        dice=_dice(logits.sigmoid(), truth),
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SetLoss:
    """The loss of one image and its parts, unweighted."""

    classes: Float32[Tensor, ""]
    masks: Float[Tensor, ""]
    dice: Float[Tensor, ""]
    query: Int64[Tensor, ""]
    """The query that was matched with the object."""

    @property
    def total(self) -> Float[Tensor, ""]:
        """What is trained with."""
        return _CLASS_WEIGHT * self.classes + _MASK_WEIGHT * self.masks + _DICE_WEIGHT * self.dice


def datasetdm_loss(said: QueryMasks, target: Bool[Tensor, "H W"], points: Points) -> SetLoss:
    """The loss of an image with one object (methods 6.5).

    The object's query is the one that costs least; it is to say so and to have its mask, the others
    are to say no object. There is one object, so the assignment is a minimum.

    Args:
        said: the decoder's last answer.
        target: the object's mask, of any size: points are in normalised coordinates.
        points: draws points.
    """
    costs = matching_costs(said, target, points(POINTS).to(said.masks))
    query = costs.total.argmin()
    labels = said.classes.shape[1]
    wanted = torch.full((len(said.classes),), labels - 1, device=query.device)
    wanted[query] = OBJECT
    weights = torch.ones(labels, device=query.device)
    weights[-1] = _NO_OBJECT_WEIGHT
    mask = said.masks[query]
    with torch.no_grad():
        chosen = uncertain_points(mask, points)
        truth = sample_points(target[None].to(mask), chosen)[0]
    logits = sample_points(mask[None], chosen)[0]
    return SetLoss(
        classes=cross_entropy(said.classes.float(), wanted, weights),
        masks=binary_cross_entropy_with_logits(logits, truth),
        dice=_dice(logits.sigmoid()[None], truth)[0],
        query=query,
    )


def uncertain_points(mask: Float[Tensor, "h w"], points: Points) -> Float[Tensor, "P 2"]:
    """Points where a mask is least sure of itself, and a quarter of new ones (PointRend)."""
    many = points(OVERSAMPLED * POINTS).to(mask)
    logits = sample_points(mask[None], many)[0]
    sharpest = (-logits.abs()).topk(_UNCERTAIN).indices
    return torch.cat([many[sharpest], points(POINTS - _UNCERTAIN).to(mask)])


def sample_points(
    maps: Float[Tensor, "K h w"], points: Float[Tensor, "P 2"]
) -> Float[Tensor, "K P"]:
    """Bilinear samples at points (x, y) of [0, 1); zeros lie outside, as published."""
    grid = (2 * points - 1)[None, None]
    return grid_sample(maps[None], grid, align_corners=False)[0, :, 0]


def _dice(masks: Float[Tensor, "K P"], truth: Float[Tensor, " P"]) -> Float[Tensor, " K"]:
    """1 - (2·overlap + 1) / (sum of both + 1)."""
    return 1 - (2 * masks @ truth + 1) / (masks.sum(1) + truth.sum() + 1)
