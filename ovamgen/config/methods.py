"""What each attribution method needs recorded, declared where no torch is needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Branch = Literal["unconditional", "conditional"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodNeeds:
    """What a method reads of a drawing. Self-attention is a matter of ``masks.self_attention``."""

    branch: Branch = "unconditional"
    """Half of the guided batch that queries are read from by default (methods 0.1)."""
    in_prompt: bool = False
    """A class must be named in the generation prompt, or it has no map."""
    one_call: bool = False
    """Maps are of one UNet call, chosen by its timestep, and not a sum over all of them."""
    steps: int = 30
    """num_inference_steps of the publication. Any other number works."""


NEEDS: Mapping[str, MethodNeeds] = MappingProxyType(
    {
        "attn2mask": MethodNeeds(one_call=True, steps=100),
        "daam": MethodNeeds(branch="conditional", in_prompt=True),
        "daam-ovam": MethodNeeds(),
        "ovam": MethodNeeds(),
    }
)
"""By the names in `ovamgen.attribution.method.METHODS`."""


def default_branch(method: str) -> Branch:
    """The half of the guided batch that a method reads where ``attribution.branch`` is auto.

    A name that no method has is refused by `ovamgen.attribution.method.check_method`, not here.
    """
    return NEEDS.get(method, MethodNeeds()).branch
