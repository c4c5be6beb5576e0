"""YAML of plain values, from files that anybody may have written."""

from __future__ import annotations

from typing import Any

import yaml

from ovamgen.bounds import MAX_YAML_BYTES, MAX_YAML_DEPTH, MAX_YAML_NUMBER, MAX_YAML_VALUES

# libyaml reads long texts ten times as fast; PyYAML may have been built without it
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_Loader):  # type: ignore[misc]
    """Numbers are as long as numbers are."""


def _read_number(loader: _PlainLoader, node: yaml.ScalarNode) -> int | float:
    text = loader.construct_scalar(node)
    if len(text) > MAX_YAML_NUMBER:
        line = node.start_mark.line + 1
        raise ValueError(
            f"line {line}: a number of at most {MAX_YAML_NUMBER} characters expected, got one of "
            f"{len(text)}"
        )
    if node.tag.endswith(":float"):
        return loader.construct_yaml_float(node)
    return loader.construct_yaml_int(node)


for _tag in ("int", "float"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _read_number)


def load_plain_yaml(text: str | bytes) -> Any:
    """The plain values of a YAML text; aliases, which can multiply it, are refused.

    A few lines of aliases can stand for billions of values ("billion laughs"), in merge keys even
    while they are read: there are none in what ovamgen writes, and they are refused.

    Raises:
        ValueError: no YAML, nested too deep, too long, or with aliases; the text says why.
    """
    if len(text) > MAX_YAML_BYTES:
        raise ValueError(f"expected at most {MAX_YAML_BYTES} bytes, got {len(text)}")
    depth = values = 0
    try:
        for event in yaml.parse(text, _Loader):
            # the scanner's time grows with the square of the depth
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_YAML_DEPTH:
                raise ValueError(f"it is nested too deep, more than {MAX_YAML_DEPTH} levels")
            values += isinstance(event, yaml.NodeEvent)
            if values > MAX_YAML_VALUES:
                raise ValueError(f"it has more than {MAX_YAML_VALUES} values")
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ValueError(
                    f"line {line}: aliases (*{event.anchor}) are not read: write the value out"
                )
        return yaml.load(text, _PlainLoader)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        # some tags make the loader stumble over its own types
        raise ValueError(" ".join(str(error).split())) from None
