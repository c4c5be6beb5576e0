"""The published ways to optimise tokens, as data that ships with the package."""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import Any

import yaml

from ovamgen.console.wording import nearest
from ovamgen.errors import ConfigError
from ovamgen.tokens.optimiser import OptimiserSettings

DEFAULT_PRESET = "paper"


def token_preset_names() -> list[str]:
    """The presets that ship with the package."""
    folder = resources.files("ovamgen") / "presets" / "tokens"
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def load_token_preset(
    name: str, *, steps: int | None = None, learning_rate: float | None = None
) -> OptimiserSettings:
    """The settings of a preset, with what was given in their place.

    Args:
        name: ``paper`` or ``released-code`` (methods 2.5).
        steps: instead of the preset's.
        learning_rate: instead of the preset's.

    Raises:
        ConfigError: no preset has that name, or a number is out of range.
    """
    known = token_preset_names()
    if name not in known:
        raise ConfigError(f"unknown token preset '{name}'{nearest(name, known)}")
    file = resources.files("ovamgen") / "presets" / "tokens" / f"{name}.yaml"
    values: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    values.pop("source")
    given = {"steps": steps, "learning_rate": learning_rate}
    values |= {key: value for key, value in given.items() if value is not None}
    return OptimiserSettings(**values)


def settings_text(settings: OptimiserSettings) -> dict[str, str]:
    """The settings as text by name, for a provenance."""
    return {name: str(value) for name, value in dataclasses.asdict(settings).items()}
