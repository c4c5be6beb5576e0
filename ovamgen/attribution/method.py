"""The registry of heatmap methods: a new one is a new file and a line in `METHODS`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from ovamgen.attribution.interface import AttributedModel, ClassTarget, HeatmapMethod
from ovamgen.attribution.ovam import Ovam
from ovamgen.errors import MethodError

METHODS: dict[str, Callable[[AttributedModel, Sequence[ClassTarget]], HeatmapMethod]] = {
    "ovam": Ovam,
}


def check_method(name: str) -> None:
    """Nothing, where a method has that name.

    Raises:
        MethodError: no method has that name; the nearest one is named.
    """
    if name in METHODS:
        return
    near = difflib.get_close_matches(name, list(METHODS), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(METHODS))}"
    raise MethodError(f"unknown attribution method '{name}': {hint}")


def build_method(
    name: str, model: AttributedModel, targets: Sequence[ClassTarget]
) -> HeatmapMethod:
    """The method of that name, ready for the batches of a run.

    Args:
        name: a key of `METHODS`.
        model: whose attention is read.
        targets: the classes that maps are made of, in the order of the maps.

    Raises:
        MethodError: no method has that name (the nearest one is named), or it cannot work with
            such targets.
    """
    check_method(name)
    return METHODS[name](model, targets)
