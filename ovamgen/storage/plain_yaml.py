"""YAML of plain values, from files that anybody may have written."""

from __future__ import annotations

from typing import Any

import yaml

MAX_DEPTH = 64
MAX_BYTES = 4 * 1024**2
"""Far more than any configuration; YAML of this size takes a minute to read."""


def load_plain_yaml(text: str | bytes) -> Any:
    """The plain values of a YAML text; aliases, which can multiply it, are refused.

    A few lines of aliases can stand for billions of values ("billion laughs"), in merge keys even
    while they are read: there are none in what ovamgen writes, and they are refused.

    Raises:
        ValueError: no YAML, nested too deep, too long, or with aliases; the text says why.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} bytes, got {len(text)}")
    depth = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            # the scanner's time grows with the square of the depth
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested too deep, more than {MAX_DEPTH} levels")
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ValueError(
                    f"line {line}: aliases (*{event.anchor}) are not read: write the value out"
                )
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        # some tags make the loader stumble over its own types
        raise ValueError(" ".join(str(error).split())) from None
