"""The section ``label``: pictures that are there already, in the place of drawn ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ovamgen.storage.section import Section

if TYPE_CHECKING:
    from ovamgen.config.models import PlanConfig, SynthesisConfig

DEFAULT_PROBE = (501, 301, 101)
"""Timesteps at which pictures are noised where none are named: see docs/results/label.md."""

HEAD_PROBE = (1,)
"""The same for the methods that have a trained head."""

NO_SCHEDULER = "none"
"""In the place of a scheduler's name where nothing is drawn."""

_OF_CAPTIONS = (
    *("instances", "preset", "classes", "per_class", "wanted", "empty_share", "min_area"),
)
"""What of ``plan`` is about which captions become samples, and not about pictures."""


class LabelConfig(Section):
    """Which pictures are labelled, and which classes are in them."""

    came_later: ClassVar = frozenset({"pictures", "min_score"})

    pictures: str = ""
    """Folder or tar of pictures, or URL of one; ``mini`` for those that ship with it; nothing where
    images are drawn. ``plan.captions`` may name a table of their captions or classes."""
    min_score: float = 1.2
    """Where nothing says which classes a picture shows, those that score so much are kept: how much
    better than by others the noise on the picture is predicted by the class's name, in standard
    deviations over all names."""

    def drawn(self, synthesis: SynthesisConfig, calls: int) -> SynthesisConfig:
        """The section ``synthesis`` of a run that draws nothing: how often the UNet is called."""
        return synthesis.model_copy(
            update={"steps": calls, "scheduler": NO_SCHEDULER, "safety": "off"}
        )


def check_plan_of_pictures(plan: PlanConfig) -> None:
    """Checks that nothing is asked of a plan that only captions have.

    Raises:
        ValueError: something is; it is named.
    """
    for name in _OF_CAPTIONS:
        field = type(plan).model_fields[name]
        if getattr(plan, name) != field.get_default(call_default_factory=True):
            raise ValueError(
                f"plan.{name} chooses among captions, and label.pictures takes every picture: "
                "leave it away; a table with the column classes says what pictures show "
                "(plan.captions)"
            )
