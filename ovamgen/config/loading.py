"""From YAML, presets and ``a.b=c`` overrides to a configuration, with errors in one line."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from ovamgen.config.methods import METHODS
from ovamgen.config.models import RunConfig
from ovamgen.console.wording import nearest
from ovamgen.errors import ConfigError
from ovamgen.storage.plain_yaml import load_plain_yaml
from ovamgen.storage.section import AS_KEYS, validated


def preset_names(kind: str = "masks") -> list[str]:
    """The presets that ship with the package.

    Args:
        kind: ``masks``; ``tokens`` for those of token optimisation, ``heads`` for those of the
            training of heads.
    """
    folder = _preset_folder(kind)
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def load_preset(name: str, kind: str = "masks") -> dict[str, Any]:
    """The values of a preset: of masks by section, of others by field.

    Args:
        name: of the preset.
        kind: as for `preset_names`.

    Raises:
        ConfigError: no preset has that name; the nearest one is named.
    """
    known = preset_names(kind)
    if name not in known:
        raise ConfigError(f"unknown preset '{name}'{nearest(name, known)}")
    text = (_preset_folder(kind) / f"{name}.yaml").read_text("utf-8")
    return {key: value for key, value in yaml.safe_load(text).items() if key != "source"}


def _preset_folder(kind: str) -> Traversable:
    presets = resources.files("ovamgen") / "presets"
    return presets if kind == "masks" else presets / kind


def read_config_file(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds no mapping.
    """
    try:
        data = load_plain_yaml(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"configuration file {path} cannot be read as YAML: {reason}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"configuration file {path} must hold sections such as 'plan:' and 'model:', "
            f"got a {type(data).__name__}"
        )
    if other := [key for key in data if not isinstance(key, str)]:
        raise ConfigError(
            f"configuration file {path} must hold sections by name, got {other[0]!r:.40}"
        )
    return data


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """``["a.b=1", ...]`` as nested dictionaries; values are read as YAML."""
    data: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set expects KEY=VALUE such as plan.seed=3, got '{pair}'")
        node = data
        *sections, last = name.strip().split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {pair}: '{section}' was already given a value")
        try:
            node[last] = load_plain_yaml(value)
        except ValueError:
            node[last] = value
    return data


def build_config(*layers: dict[str, Any], given_as: Mapping[str, str] = AS_KEYS) -> RunConfig:
    """The configuration that the layers make, later ones winning; presets lie below all of them.

    Args:
        layers: sections with their keys.
        given_as: what complaints call a key that was given otherwise: see `validated`.

    Raises:
        ConfigError: an unknown key (the nearest one is named) or a value that is not allowed.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer)
    preset, own = _preset_of(merged)
    merged = merge(load_preset(preset), merged)
    if own:
        merged = merge(merged, {"masks": {"preset": preset}})
    return validated(RunConfig, merged, "configuration key", given_as)


def _preset_of(given: dict[str, Any]) -> tuple[str, bool]:
    """The mask preset, and whether it is the method's own, which nobody asked for."""
    masks, attribution = given.get("masks"), given.get("attribution")
    if isinstance(masks, dict) and "preset" in masks:
        return str(masks["preset"]), False
    method = attribution.get("method") if isinstance(attribution, dict) else None
    own = METHODS[method].preset if isinstance(method, str) and method in METHODS else ""
    # masks that are no section are refused with the rest
    return (own, True) if own and isinstance(masks, dict | None) else ("paper", False)


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two nested dictionaries as one; ``above`` wins."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[name] = merge(old, value) if both else value  # type: ignore[arg-type]  # both dicts
    return result
