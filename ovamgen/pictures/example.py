"""Pictures with label maps by number: what a training draws from, wherever they are kept.

Data that can be asked for by number make the order of a training a function of its seed and step
alone, so that it can be resumed exactly; a stream can only be read from its beginning again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A picture and what each of its pixels shows."""

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    labels: UInt8[np.ndarray, "H W"]
    """0 background, 255 ignored, else ids of classes."""


@runtime_checkable
class Examples(Protocol):
    """What a training asks of its data."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, index: int) -> Example:
        """One of them, checked."""

    def digest(self) -> str:
        """A checksum by which a resumed training knows its data again."""
