"""The section ``attribution``: where heatmaps come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_serializer, model_validator

from ovamgen.config.head_source import AUTO_HEAD, head_file
from ovamgen.config.methods import METHODS, Branch, default_branch, uses_head
from ovamgen.config.token_source import Missing, TokenSource
from ovamgen.storage.section import Section


class AttributionConfig(Section):
    """Where heatmaps come from."""

    came_later: ClassVar = frozenset({"missing", "resolutions", "calls", "probe"})

    method: str = "ovam"
    """What heatmaps are made of."""
    tokens: str = "auto"
    """A token bank (.safetensors), ``own`` (the one that ships with ``mini``), ``voc-sd15`` (the
    published tokens of VOC's classes, for Stable Diffusion 1.x), ``words`` (class phrases as
    natural text), ``untrained`` (pairs of the text encoder's own rows), or ``auto``: the bank that
    ships for the model's text encoder where it has all the classes, else ``words``; ``untrained``
    for random weights."""
    missing: Missing = "refuse"
    """What becomes of classes that the bank lacks: it is refused, or their ``words`` stand for
    them, with the threshold of words."""
    branch: Literal["auto", "unconditional", "conditional"] = "auto"
    """Half of the guided batch that queries are read from (methods 0.1); ``auto``: the method's
    own, and ``conditional`` where guidance of at most 1 leaves only that."""
    resolutions: tuple[int, ...] = ()
    """Cross-attention layers that are read, by the cells of their shorter side: some of 16, 32 and
    64 for Stable Diffusion 1.x at 512 pixels; all where empty."""
    calls: tuple[int, int] | None = None
    """UNet calls whose cross-attention is read, by the lowest and the highest timestep, from 0 (the
    image) to 999 (noise); all where not given."""
    probe: tuple[Annotated[int, Field(ge=0, lt=1000)], ...] = ()
    """Timesteps at which the finished image is noised and looked at once more, each with noise of
    its own; maps are made of these UNet calls instead of the drawing's. For models of few steps,
    whose own calls see mostly noise, and for pictures that nothing draws (``label``)."""
    head: str = AUTO_HEAD
    """File or URL of the network that makes the maps of ``grounded`` and ``datasetdm``; ``own``:
    the one that ships with ``mini``; ``auto``: ``own`` for ``mini``, none for all others."""
    head_mode: Literal["official", "eval"] = "official"
    """The network runs as the released scripts run it, with the statistics of each image, or with
    those that were stored with it (methods 5.4)."""
    head_tokens: Literal["row", "pair_mean"] = "row"
    """What ``datasetdm`` is asked with where a class has an optimised pair: its class row, or the
    mean of both rows (methods 6.6)."""

    @model_serializer(mode="wrap")
    def _written(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """As for every section; and what is about heads only where the method has one."""
        data = super()._written(dump)
        if not uses_head(self.method):
            for name in ("head", "head_mode", "head_tokens"):
                data.pop(name, None)
        return data

    @model_validator(mode="after")
    def _chosen(self) -> AttributionConfig:
        for name in ("resolutions", "calls"):
            own = self.method in METHODS and METHODS[self.method].chooses(name)
            if getattr(self, name) and own:
                raise ValueError(
                    f"attribution.{name} chooses among what a method reads, and {self.method} has "
                    "its own choice: leave it away"
                )
        if min(self.resolutions, default=1) < 1:
            raise ValueError(
                f"attribution.resolutions must be numbers of cells, got {min(self.resolutions)}"
            )
        if self.calls is not None and not 0 <= self.calls[0] <= self.calls[1] <= 1000:
            raise ValueError(
                "attribution.calls must be two timesteps from 0 to 1000, the lower one first, got "
                f"{self.calls[0]} and {self.calls[1]}"
            )
        return self

    @model_validator(mode="after")
    def _agree(self) -> AttributionConfig:
        if self.head_mode != "official" and not uses_head(self.method):
            raise ValueError(
                "attribution.head_mode is for the methods grounded and datasetdm, the method is "
                f"{self.method}: leave it away"
            )
        if self.head_tokens != "row" and self.method != "datasetdm":
            raise ValueError(
                "attribution.head_tokens pair_mean is for the method datasetdm, the method is "
                f"{self.method}: leave it away"
            )
        return self

    @property
    def head_file(self) -> str | None:
        """Path or URL of the head, once `RunConfig` has chosen for ``auto``; None without one."""
        return head_file(self.head, self.method)

    @property
    def half(self) -> Branch:
        """``branch`` with the method's own in place of ``auto``."""
        return default_branch(self.method) if self.branch == "auto" else self.branch

    @property
    def token_source(self) -> TokenSource:
        """What ``tokens`` says, once `RunConfig` has chosen for ``auto``."""
        return TokenSource(self.tokens)
