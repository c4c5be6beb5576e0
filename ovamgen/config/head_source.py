"""What ``attribution.head`` says: which trained network a method's maps are made by.

What can be told of it without a file is told here; `ovamgen.attribution.heads.reading` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ovamgen import mini
from ovamgen.config.methods import uses_head

AUTO_HEAD = "auto"
OWN_HEAD = "own"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedHead:
    """A head that comes with the package."""

    file: Path
    model: str
    """The model whose features it reads."""


SHIPPED_HEADS: Mapping[str, ShippedHead] = MappingProxyType(
    {name: ShippedHead(file=file, model=mini.NAME) for name, file in mini.HEADS.items()}
)
"""What ``own`` means, by method, so that no path of a machine stands in configurations."""


def choose_head(asked: str, method: str, model: str) -> str:
    """The head that is asked for, with a choice for the model in place of ``auto``.

    Args:
        asked: a value of ``attribution.head``.
        method: a key of `ovamgen.config.METHODS`.
        model: the model's name.

    Raises:
        ValueError: a head for a method that has none, none for one that needs it, or a shipped one
            of another model.
    """
    if not uses_head(method):
        if asked != AUTO_HEAD:
            raise ValueError(
                f"attribution.head is for the methods grounded and datasetdm, the method is "
                f"{method}: leave the head away, or give one of them"
            )
        return asked
    shipped = SHIPPED_HEADS.get(method)
    fits = shipped is not None and shipped.model == model
    if asked == AUTO_HEAD:
        if fits:
            return OWN_HEAD
        raise ValueError(
            f"the method {method} needs a head that was trained on {model}, none was given: use "
            f"--head FILE ('ovamgen heads train {method}' makes one, 'ovamgen heads import' reads "
            "the authors' checkpoint)"
        )
    if asked == OWN_HEAD and not fits:
        raise ValueError(
            f"attribution.head own is a head of {mini.NAME}, the model is {model}: give one that "
            "was trained on it"
        )
    return asked


def head_file(head: str, method: str) -> str | None:
    """Path or URL of a method's head; None where it has none.

    Args:
        head: as `choose_head` gives it.
        method: a key of `ovamgen.config.METHODS`.
    """
    if not uses_head(method):
        return None
    return str(SHIPPED_HEADS[method].file) if head == OWN_HEAD else head
