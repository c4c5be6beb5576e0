"""The registry of heatmap methods: what can be known of each before it is built, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ovamgen.console.wording import nearest
from ovamgen.errors import MethodError

Branch = Literal["unconditional", "conditional"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to make heatmaps. Self-attention is a matter of ``masks.self_attention``."""

    summary: str
    """In one line, for help."""
    made_by: str
    """``module:name`` of what `ovamgen.attribution.method.build_method` calls: a class that takes
    the model and the targets and is a `HeatmapMethod`. Imported when it is built."""
    branch: Branch = "unconditional"
    """Half of the guided batch that queries are read from by default (methods 0.1)."""
    in_prompt: bool = False
    """A class must be named in the generation prompt, or it has no map."""
    one_call: bool = False
    """Maps are of one UNet call, chosen by its timestep, and not a sum over all of them."""
    head: bool = False
    """A trained network makes the maps, which are probabilities: ``attribution.head`` names its
    file, and ``made_by`` is given the network as well."""
    preset: str = ""
    """The mask preset of this method where none is asked for; "" for the one of all others."""

    def chooses(self, name: str) -> bool:
        """Whether the method itself decides on what ``attribution.resolutions`` or ``calls`` do."""
        return self.head or (self.one_call and name == "calls")


METHODS: dict[str, Method] = {
    "attn2mask": Method(
        summary="the attention of one UNet call, half-way through sampling",
        made_by="ovamgen.attribution.attn2mask:Attn2Mask",
        one_call=True,
    ),
    "daam": Method(
        summary="the prompt's own words, on the conditional half",
        made_by="ovamgen.attribution.daam:Daam",
        branch="conditional",
        in_prompt=True,
    ),
    # the published notebook thresholds OVAM's maps plainly (methods 1.5): the preset is its own
    "daam-ovam": Method(
        summary="OVAM's maps, for what the OVAM paper calls DAAM",
        made_by="ovamgen.attribution.ovam:Ovam",
    ),
    "datasetdm": Method(
        summary="DatasetDM's network (needs a head)",
        made_by="ovamgen.attribution.trained_head:DatasetDm",
        head=True,
        preset="datasetdm",
    ),
    "grounded": Method(
        summary="Grounded Diffusion's network (needs a head)",
        made_by="ovamgen.attribution.trained_head:Grounded",
        head=True,
        preset="grounded",
    ),
    "ovam": Method(
        summary="any words or tokens, whatever the prompt says",
        made_by="ovamgen.attribution.ovam:Ovam",
    ),
}
"""By the names that ``attribution.method`` takes."""


def check_method(name: str) -> None:
    """Checks that a method has that name.

    Raises:
        MethodError: no method has that name; the nearest one is named.
    """
    if name not in METHODS:
        raise MethodError(f"unknown attribution method '{name}'{nearest(name, METHODS)}")


def uses_head(method: str) -> bool:
    """Whether a trained network makes the method's maps; a name that no method has uses none."""
    return method in METHODS and METHODS[method].head


def default_branch(method: str) -> Branch:
    """The half of the guided batch that a method reads where ``attribution.branch`` is auto.

    A name that no method has is refused by `check_method`, not here.
    """
    return METHODS[method].branch if method in METHODS else "unconditional"
