"""JSON of plain values, from files that anybody may have written."""

from __future__ import annotations

import json
from typing import Any

from ovamgen.bounds import MAX_JSON_DEPTH, MAX_JSON_VALUES


def load_plain_json(data: bytes | str) -> Any:
    """The plain values of a JSON text.

    A few bytes of a text can cost a hundred in memory: values are counted before they are made.
    Integers have at most as many digits as Python reads (4,300).

    Raises:
        ValueError: no JSON, nested too deep, or with too many values; the text says why.
    """
    # those in strings count too: what is written here has far fewer of both
    openings = _count(data, "[") + _count(data, "{")
    values = openings + _count(data, ",")
    if values > MAX_JSON_VALUES:
        raise ValueError(f"expected at most {MAX_JSON_VALUES} values, got up to {values}")
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if openings > MAX_JSON_DEPTH:
        _check_depth(found)
    return found


def _count(data: bytes | str, mark: str) -> int:
    return data.count(mark) if isinstance(data, str) else data.count(mark.encode())


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            inner
            for node in level
            for inner in (node.values() if isinstance(node, dict) else node)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"it is nested too deep, more than {MAX_JSON_DEPTH} levels")
