"""The registry of heatmap methods.

A new one is a new file, a line in `METHODS` and a line in `ovamgen.config.NEEDS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from ovamgen.attribution.attn2mask import Attn2Mask
from ovamgen.attribution.daam import Daam
from ovamgen.attribution.daam_ovam import daam_ovam
from ovamgen.attribution.interface import AttributedModel, ClassTarget, HeatmapMethod
from ovamgen.attribution.ovam import Ovam
from ovamgen.attribution.self_attention import SelfAttended
from ovamgen.config import MaskConfig
from ovamgen.errors import MethodError

METHODS: dict[str, Callable[[AttributedModel, Sequence[ClassTarget]], HeatmapMethod]] = {
    "attn2mask": Attn2Mask,
    "daam": Daam,
    "daam-ovam": daam_ovam,
    "ovam": Ovam,
}


def check_method(name: str) -> None:
    """Checks that a method has that name.

    Raises:
        MethodError: no method has that name; the nearest one is named.
    """
    if name in METHODS:
        return
    near = difflib.get_close_matches(name, list(METHODS), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(METHODS))}"
    raise MethodError(f"unknown attribution method '{name}': {hint}")


def build_method(
    name: str,
    model: AttributedModel,
    targets: Sequence[ClassTarget],
    masks: MaskConfig | None = None,
) -> HeatmapMethod:
    """The method of that name, ready for the batches of a run.

    Args:
        name: a key of `METHODS`.
        model: whose attention is read.
        targets: the classes that maps are made of, in the order of the maps.
        masks: its ``self_attention`` fields say whether self-attention is recorded and what it does
            to the maps; nothing where no settings are given.

    Raises:
        MethodError: no method has that name (the nearest one is named), or it cannot work with
            such targets or such a model.
    """
    check_method(name)
    method = METHODS[name](model, targets)
    if masks is None or masks.self_attention in ("none", "constant"):
        return method
    model.check_self_attention()
    return SelfAttended(method, masks)
