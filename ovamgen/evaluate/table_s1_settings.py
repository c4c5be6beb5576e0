"""What a Table S1 is made of: its rows, the runs, the training, the pictures to score on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from ovamgen.config import RunConfig, Section, build_config, merge, validated
from ovamgen.segmentor.settings import TrainSettings, build_settings

_QUICK_IMAGES = 24
_QUICK_STEPS = 40
_STEPS = 1500


class RowSettings(Section):
    """One row: how the masks of its pictures are made."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Name of the row and of its folder."""
    preset: str = "paper"
    """A mask preset, which may name the method."""
    tokens: str
    """``words``, ``own``, a token bank, or what else ``attribution.tokens`` takes."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Further configuration by section, over the table's ``generate``."""


class TableSettings(Section):
    """What the table is made of."""

    images: int = Field(default=300, ge=1)
    """Pictures that each row's segmentor is trained on."""
    generate: dict[str, Any]
    """Configuration of the runs: ``plan``, ``model``, ``synthesis``."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Settings of the training: ``size``, ``steps``."""
    pretrain: dict[str, Any] | None = None
    """Settings of a training on the same pictures before it, whose segmentor it goes on from: small
    pictures (``crop_px``, ``augment``) first, since a small network learns shapes faster there."""
    voc: str
    """Folder in VOC's layout that is scored on."""
    split: str = "val"
    real: str | None = None
    """Folder in VOC's layout whose ``real_split`` trains the upper reference."""
    real_split: str = "train"
    rows: tuple[RowSettings, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> TableSettings:
        names = [row.name for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError(f"the rows of a table must have different names, got {names}")
        return self

    def quick(self) -> TableSettings:
        """The same table of few pictures and steps: does it run, not what does it say."""
        return self.model_copy(
            update={
                "images": min(self.images, _QUICK_IMAGES),
                "train": _shortened(self.train),
                "pretrain": None if self.pretrain is None else _shortened(self.pretrain),
            }
        )

    def trainings(self, source: dict[str, Any]) -> tuple[TrainSettings, ...]:
        """The trainings, one after another, each to go on from the one before.

        Args:
            source: ``{"shards": ...}`` or ``{"real": ..., "real_split": ...}``.

        Raises:
            ConfigError: a setting is unknown or not allowed.
        """
        phases = [self.train] if self.pretrain is None else [self.pretrain, self.train]
        return tuple(build_settings({"steps": _STEPS}, phase, source) for phase in phases)

    def run_config(self, row: RowSettings, out: Path) -> RunConfig:
        """The configuration of the run that makes the row's shards.

        Raises:
            ConfigError: it is not a configuration.
        """
        fixed = {
            "plan": {"limit": self.images},
            "attribution": {"tokens": row.tokens},
            "masks": {"preset": row.preset},
            "out": str(out),
        }
        return build_config(merge(merge(self.generate, row.set), fixed))


def _shortened(training: dict[str, Any]) -> dict[str, Any]:
    return {**training, "steps": min(int(training.get("steps", _STEPS)), _QUICK_STEPS)}


def build_table_settings(data: dict[str, Any], *, quick: bool = False) -> TableSettings:
    """The settings in a configuration file's mapping.

    Args:
        data: of the file.
        quick: few pictures and steps.

    Raises:
        ConfigError: a key is missing, unknown or of another kind; it is named.
    """
    settings = validated(TableSettings, data, "table setting")
    return settings.quick() if quick else settings
