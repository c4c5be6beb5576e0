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

FROM_FILE = " (file)"
"""Ends the recorded name of a preset file, whose values are recorded beside it."""
_PRESET_SECTIONS = ("attribution", "masks", "synthesis")


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
    if kind == "masks" and name.endswith(FROM_FILE):
        return {}
    known = preset_names(kind)
    if name not in known:
        raise ConfigError(f"unknown preset '{name}'{nearest(name, known)}")
    text = (_preset_folder(kind) / f"{name}.yaml").read_text("utf-8")
    return {key: value for key, value in yaml.safe_load(text).items() if key != "source"}


def is_preset_file(name: str) -> bool:
    """Whether a mask preset that a user names is a file, and none that ships."""
    return name.endswith((".yaml", ".yml"))


def read_preset(name: str) -> dict[str, Any]:
    """The values by section of a mask preset that a user names: one that ships, or a file.

    Args:
        name: as it was given: nothing that came with a corpus is opened by its word.

    Raises:
        ConfigError: no such preset or file, or a file that is about something else.
    """
    if not is_preset_file(name):
        return load_preset(name)
    data = read_config_file(name, "preset file")
    data.pop("source", None)
    if other := sorted(data.keys() - set(_PRESET_SECTIONS)):
        raise ConfigError(
            f"preset file {name} must hold the sections {', '.join(_PRESET_SECTIONS)}, got "
            f"'{other[0]}'"
        )
    for section, values in data.items():
        if not isinstance(values, dict):
            raise ConfigError(
                f"preset file {name} must hold keys below '{section}:', got {values!r:.40}"
            )
    if "preset" in data.get("masks", {}):
        raise ConfigError(f"preset file {name} is a preset itself: leave masks.preset out of it")
    return data


def with_preset_file(*layers: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The layers of a configuration, with the values of a preset file below them if one is named.

    The preset is then recorded under the file's name without its folder, and all of its values
    beside it, so that nobody needs the file again.

    Raises:
        ConfigError: as for `read_preset`.
    """
    name, _ = _preset_of(_merged(*layers))
    if not is_preset_file(name):
        return layers
    label = f"{Path(name).stem}{FROM_FILE}"
    return (read_preset(name), *layers, {"masks": {"preset": label}})


def _preset_folder(kind: str) -> Traversable:
    presets = resources.files("ovamgen") / "presets"
    return presets if kind == "masks" else presets / kind


def read_config_file(path: str | Path, noun: str = "configuration file") -> dict[str, Any]:
    """The mapping in a YAML file; ``noun`` is what messages call it.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds no mapping.
    """
    try:
        data = load_plain_yaml(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{noun} {path} does not exist") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{noun} {path} cannot be read as YAML: {reason}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{noun} {path} must hold sections such as 'masks:' and 'synthesis:', "
            f"got a {type(data).__name__}"
        )
    if other := [key for key in data if not isinstance(key, str)]:
        raise ConfigError(f"{noun} {path} must hold sections by name, got {other[0]!r:.40}")
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
    merged = _merged(*layers)
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


def _merged(*layers: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer)
    return merged


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two nested dictionaries as one; ``above`` wins."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[name] = merge(old, value) if both else value  # type: ignore[arg-type]  # both dicts
    return result
