"""Regions of a mask: the connected parts of each class, or each class as a whole.

scipy finds the parts; it comes with ``ovamgen[export]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8

from ovamgen.errors import ConfigError

Regions = Literal["components", "class"]


def need(name: str) -> ModuleType:
    """A library that only exports need.

    Raises:
        ConfigError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"this export needs {name.partition('.')[0]}: pip install 'ovamgen[export]'"
        ) from None


def regions_of(
    labels: UInt8[np.ndarray, "H W"], label: int, by: Regions, min_area: int = 1
) -> Iterator[Bool[np.ndarray, "H W"]]:
    """The regions of a label with at least so many pixels, from the top left.

    Args:
        labels: of a mask.
        label: whose pixels count.
        by: ``components``, each with all pixels that touch one another at a side or a corner; or
            ``class``, all pixels as one region.
        min_area: pixels that a region has at least.
    """
    found = labels == label
    if by == "class":
        if found.sum() >= max(min_area, 1):
            yield found
        return
    parts, count = need("scipy.ndimage").label(found, structure=np.ones((3, 3)))
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    for number in range(1, count + 1):
        if areas[number] >= min_area:
            yield parts == number
