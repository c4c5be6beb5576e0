"""From YAML, presets and ``a.b=c`` overrides to a configuration, with errors in one line."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ovamgen.config.models import RunConfig
from ovamgen.errors import ConfigError


def preset_names() -> list[str]:
    """The mask presets that ship with the package."""
    folder = resources.files("ovamgen") / "presets"
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def load_preset(name: str) -> dict[str, Any]:
    """The values of a mask preset, by section.

    Raises:
        ConfigError: no preset has that name; the nearest one is named.
    """
    if name not in preset_names():
        raise ConfigError(f"unknown preset '{name}'{_nearest(name, preset_names())}")
    text = (resources.files("ovamgen") / "presets" / f"{name}.yaml").read_text("utf-8")
    return {key: value for key, value in yaml.safe_load(text).items() if key != "source"}


def read_config_file(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds no mapping.
    """
    try:
        data = yaml.safe_load(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"configuration file {path} cannot be read as YAML: {reason}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"configuration file {path} must hold sections such as 'plan:' and 'model:', "
            f"got a {type(data).__name__}"
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
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            node[last] = value
    return data


def build_config(*layers: dict[str, Any]) -> RunConfig:
    """The configuration that the layers make, later ones winning; presets lie below all of them.

    Raises:
        ConfigError: an unknown key (the nearest one is named) or a value that is not allowed.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer)
    masks = merged.get("masks")
    preset = masks.get("preset", "paper") if isinstance(masks, dict) else "paper"
    merged = merge(load_preset(str(preset)), merged)
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_one_line(error)) from None


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two nested dictionaries as one; ``above`` wins."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[name] = merge(old, value) if both else value  # type: ignore[arg-type]  # both dicts
    return result


def _one_line(error: ValidationError) -> str:
    """The first complaint of pydantic in our words: which field, what is wrong, what to do."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        siblings = _fields_beside(first["loc"])
        return f"unknown configuration key '{where}'{_nearest(str(first['loc'][-1]), siblings)}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if first["type"] == "value_error":
        return message
    got = first.get("input")
    return f"{where}: {message}, got {got!r}"


def _fields_beside(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = RunConfig
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f": did you mean '{close[0]}'?"
    return f": known are {', '.join(sorted(known))}"
