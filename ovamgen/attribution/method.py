"""Heatmap methods by name, built for a model and its classes."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence

from ovamgen.attribution.interface import AttributedModel, ClassTarget, HeatmapMethod
from ovamgen.attribution.self_attention import SelfAttended
from ovamgen.attribution.trained_head import HeadUse
from ovamgen.config import METHODS, RECORDED_SELF_ATTENTION, MaskConfig, check_method


def build_method(
    name: str,
    model: AttributedModel,
    targets: Sequence[ClassTarget],
    masks: MaskConfig | None = None,
    *,
    head: HeadUse | None = None,
) -> HeatmapMethod:
    """The method of that name, ready for the batches of a run.

    Args:
        name: a key of `ovamgen.config.METHODS`.
        model: whose attention is read.
        targets: the classes that maps are made of, in the order of the maps.
        masks: its ``self_attention`` fields say whether self-attention is recorded and what it does
            to the maps; nothing where no settings are given.
        head: of `ovamgen.attribution.trained_head.open_head`, for the methods that have one.

    Raises:
        ConfigError: the head is one of another model or method.
        MethodError: no method has that name (the nearest one is named), or it cannot work with
            such targets or such a model.
    """
    check_method(name)
    given = (model, targets, head) if METHODS[name].head else (model, targets)
    method: HeatmapMethod = pkgutil.resolve_name(METHODS[name].made_by)(*given)
    if masks is None or masks.self_attention not in RECORDED_SELF_ATTENTION:
        return method
    model.check_self_attention()
    return SelfAttended(method, masks)
