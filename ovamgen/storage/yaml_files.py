"""The mapping in a YAML file that somebody gave, here or behind a URL.

Own classes and own templates are such files.
"""

from __future__ import annotations

from typing import Any

from ovamgen.bounds import MAX_YAML_BYTES
from ovamgen.errors import ConfigError
from ovamgen.storage.plain_yaml import load_plain_yaml
from ovamgen.storage.reading import read_file
from ovamgen.storage.retrying import RemoteError


def read_yaml_mapping(url: str, what: str, holds: str) -> dict[Any, Any]:
    """The mapping that a YAML file holds; its keys may be anything that YAML knows.

    Args:
        url: a path, or any URL that fsspec opens.
        what: what messages call the file: ``class file``.
        holds: what it must hold, for the message: ``'name:' and a list 'classes:'``.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds something else.
    """
    try:
        text: bytes = read_file(url, lambda file: file.read(MAX_YAML_BYTES + 1))
        data = load_plain_yaml(text)
    except RemoteError as error:
        missing = error.failure.kind == "missing"
        reason = "does not exist" if missing else f"cannot be read: {error.explanation}"
        raise ConfigError(f"{what} {url} {reason}") from None
    except ValueError as error:
        raise ConfigError(f"{what} {url} cannot be read as YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{what} {url} must hold {holds}, got a {type(data).__name__}")
    return data
