"""What the sections of a configuration, and other files that people write, have in common.

Unknown keys are refused, and what pydantic complains about is said in one line and in our words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer

from ovamgen.console.wording import nearest
from ovamgen.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values do not change once set."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    came_later: ClassVar[frozenset[str]] = frozenset()
    """Fields that are left out of files while they have their default, so that configurations and
    fingerprints that do not use them stay what they were before there were such fields."""

    @model_serializer(mode="wrap")
    def _written(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        data = dump(self)
        for name in self.came_later & data.keys():
            field = type(self).model_fields[name]
            if getattr(self, name) == field.get_default(call_default_factory=True):
                del data[name]
        return data


AS_KEYS: Mapping[str, str] = MappingProxyType({})
"""Every field was given by its own name."""


def validated(
    root: type[M], values: Mapping[str, Any], noun: str, given_as: Mapping[str, str] = AS_KEYS
) -> M:
    """The model of these values.

    Args:
        root: the model.
        values: of its fields.
        noun: what a field of it is called: ``configuration key``.
        given_as: see `one_line`.

    Raises:
        ConfigError: an unknown field (the nearest one is named) or a value that is not allowed, in
            one line.
    """
    try:
        return root.model_validate(values)
    except ValidationError as error:
        raise ConfigError(one_line(error, root, noun, given_as)) from None


def one_line(
    error: ValidationError,
    root: type[BaseModel],
    noun: str,
    given_as: Mapping[str, str] = AS_KEYS,
) -> str:
    """The first complaint: which field, what is wrong, what came.

    Args:
        error: what ``root.model_validate`` raised.
        root: the model.
        noun: what a field of it is called: ``configuration key``.
        given_as: what the user called a field that was not given by its own name:
            ``{"plan.limit": "--limit"}``.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *section, name = first["loc"]
        return f"unknown {noun} '{where}'{nearest(str(name), _fields(root, section))}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if first["type"] == "value_error":
        return _KEY.sub(lambda key: given_as.get(key.group(), key.group()), message)
    if first["type"] == "missing":
        # what came is the whole section
        return f"{noun} '{where}' must be given"
    return f"{given_as.get(where, where)}: {message}, got {first['input']!r}"


_KEY = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")


def _fields(root: type[BaseModel], section: Iterable[int | str]) -> Iterable[str]:
    """The fields of the model at a place in ``root``; numbers count entries of a list."""
    model = root
    for part in section:
        if isinstance(part, str):
            model = next(_models(model.model_fields[part].annotation))
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in ``Model``, ``Model | None`` and ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
