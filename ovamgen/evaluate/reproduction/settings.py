"""What a reproduction of the supplementary is made of: pictures, tokens, scorings, Table S1."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ovamgen.config import Section, merge, validated
from ovamgen.evaluate.table_s1_settings import TableSettings, build_table_settings

Thresholds = Literal["preset", "tuned"]
_QUICK_PICTURES = 20
_QUICK_DRAWS = 100
_QUICK_STEPS = 12
"""Steps of drawings, of the optimisation of tokens, and of the training of segmentors."""
_QUICK_IMAGES = 4


class DrawSettings(Section):
    """Pictures that are drawn, for people to annotate; as ``ovamgen samples`` draws them."""

    per_class: int | None = Field(default=None, ge=1)
    """Pictures of every class, by the published prompt; or at most so many captions of each."""
    captions: str | None = None
    """Captions to draw; "A photograph of a {class}" where there are none."""
    instances: str | None = None
    """COCO's instances of these captions."""
    preset: Literal["general", "coco-cap"] = "coco-cap"
    """How captions are chosen."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many pictures of captions."""
    seed: int = Field(default=1996, ge=0, lt=2**32)
    """Seed of the drawing of seeds."""

    @model_validator(mode="after")
    def _something(self) -> DrawSettings:
        if self.captions is None and self.per_class is None:
            raise ValueError("draw needs per_class, or captions")
        return self


class PicturesSettings(Section):
    """Pictures with masks: those of a folder, or drawn for people to annotate."""

    samples: str | None = None
    """A folder that is there."""
    draw: DrawSettings | None = None
    annotations: str | None = None
    """Where the annotations are, if not in the folder of the samples."""

    @model_validator(mode="after")
    def _one(self) -> PicturesSettings:
        if (self.samples is None) == (self.draw is None):
            raise ValueError("pictures are those of a folder (samples), or drawn (draw): give one")
        return self


class TokenSettings(PicturesSettings):
    """The pictures that tokens are learnt from, and how."""

    came_later: ClassVar = frozenset({"images_per_class"})

    preset: str = "paper"
    """``paper`` or ``released-code``."""
    steps: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    images_per_class: int = Field(default=1, ge=1)
    """The first of each class, as many as there are; the paper's are of one (methods 2.5)."""


class ScoringSettings(PicturesSettings):
    """Pictures that masks of all methods are scored on."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    paper: Literal["VOC-sim", "COCO-cap"]
    """The paper's data set that its scores stand beside."""
    presets: tuple[str, ...] = Field(min_length=1)
    """Mask presets, each with words and with tokens."""
    split: str | None = None
    """Split of a folder in VOC's layout, which the caption is for as well."""
    caption: str | None = None
    """Caption of every picture, in place of its own."""
    text: str = "{class}"
    """Attributed for words: the class alone, or ``{prompt}`` for the whole prompt (methods 2.4)."""
    strength: float = Field(default=0.5, gt=0, le=1)
    tune_fraction: float = Field(default=0.5, gt=0, lt=1)
    """The part of the pictures that thresholds are tuned on, where they are; the rest is reported
    on."""
    limit: int | None = Field(default=None, ge=1)


class SegmentorSettings(Section):
    """Table S1, but for its rows, which follow from the presets."""

    presets: tuple[str, ...] = Field(min_length=1)
    plan: dict[str, Any]
    """Captions of the pictures, ``shard_size``, ``batch_size``."""
    images: int = Field(default=1000, ge=1)
    train: dict[str, Any] = Field(default_factory=dict)
    pretrain: dict[str, Any] | None = None
    voc: str
    split: str = "val"


class ReproductionSettings(Section):
    """The whole of it."""

    generate: dict[str, Any]
    """Configuration of all drawing: ``model``, ``synthesis``, ``runtime``."""
    heads: dict[Literal["grounded", "datasetdm"], str] = Field(default_factory=dict)
    """Files of trained heads; those that ship with ``mini`` need not be named."""
    tokens: TokenSettings
    scorings: tuple[ScoringSettings, ...] = Field(min_length=1)
    thresholds: Thresholds = "preset"
    """Which masks stand beside the paper's in figures and Table S1: at the thresholds of the
    presets, as published, or at those tuned on a part of the pictures."""
    bootstrap_draws: int = Field(default=1000, ge=10)
    drawing_steps: int | None = Field(default=None, ge=1)
    """Steps of every drawing that is scored, whatever the presets say."""
    table_s1: SegmentorSettings | None = None
    quick_look: bool = False
    """Few pictures and steps, which the page says."""

    @model_validator(mode="after")
    def _names(self) -> ReproductionSettings:
        names = [scoring.name for scoring in self.scorings]
        if len(set(names)) != len(names):
            raise ValueError(f"scorings must have different names, got {names}")
        if self.table_s1 is not None and self.thresholds == "tuned":
            scored = {preset for scoring in self.scorings for preset in scoring.presets}
            if unknown := [name for name in self.table_s1.presets if name not in scored]:
                raise ValueError(
                    f"table_s1 takes tuned thresholds of the scorings, none has {unknown[0]}"
                )
        return self

    def pictures(self) -> list[tuple[str, PicturesSettings]]:
        """Names and settings of all pictures that need masks: ``tokens``, and every scoring."""
        return [("tokens", self.tokens), *((one.name, one) for one in self.scorings)]

    def quick(self) -> ReproductionSettings:
        """The same with few pictures and steps: does it run, not what does it say."""
        scorings = tuple(
            scoring.model_copy(
                update={"limit": min(scoring.limit or _QUICK_PICTURES, _QUICK_PICTURES)}
            )
            for scoring in self.scorings
        )
        table = self.table_s1
        if table is not None:
            phases = {
                name: phase and {**phase, "steps": _QUICK_STEPS}
                for name, phase in (("train", {"size": "small", **table.train}),
                                    ("pretrain", table.pretrain))
            }  # fmt: skip
            table = table.model_copy(update={"images": min(table.images, _QUICK_IMAGES), **phases})
        return self.model_copy(
            update={
                "generate": merge(self.generate, {"synthesis": {"steps": _QUICK_STEPS}}),
                "tokens": self.tokens.model_copy(update={"steps": _QUICK_STEPS}),
                "scorings": scorings,
                "bootstrap_draws": _QUICK_DRAWS,
                "drawing_steps": _QUICK_STEPS,
                "table_s1": table,
                "quick_look": True,
            }
        )

    def table(self, bank: str, taus: dict[str, float]) -> TableSettings:
        """Table S1 with a row of words and one of tokens for each of its presets.

        Args:
            bank: the tokens.
            taus: thresholds by row, ``PRESET-words`` and ``PRESET-tokens``; those of the presets
                where there is none.

        Raises:
            ConfigError: a setting is unknown or not allowed.
        """
        assert self.table_s1 is not None
        rows = []
        for preset in self.table_s1.presets:
            for label, tokens in (("words", "words"), ("tokens", bank)):
                name = f"{preset}-{label}"
                own: dict[str, Any] = {"masks": {"tau": taus[name]}} if name in taus else {}
                if preset in self.heads:
                    own = merge(own, {"attribution": {"head": self.heads[preset]}})
                rows.append({"name": name, "preset": preset, "tokens": tokens, "set": own})
        asked = self.table_s1
        return build_table_settings(
            {
                "images": asked.images,
                "generate": merge(self.generate, {"plan": asked.plan}),
                "train": asked.train,
                "pretrain": asked.pretrain,
                "voc": asked.voc,
                "split": asked.split,
                "rows": rows,
            }
        )


def build_reproduction_settings(
    data: dict[str, Any], *, quick: bool = False
) -> ReproductionSettings:
    """The settings in a configuration file's mapping.

    Args:
        data: of the file.
        quick: few pictures and steps.

    Raises:
        ConfigError: a key is missing, unknown or of another kind; it is named.
    """
    settings = validated(ReproductionSettings, data, "reproduction setting")
    return settings.quick() if quick else settings
