"""The keys of a configuration in words: what may stand there, what stands there, what it does."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import DEFAULT
from ovamgen.config.loading import load_preset, merge, preset_names
from ovamgen.config.methods import METHODS
from ovamgen.config.models import RunConfig

_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHelp:
    """One key."""

    key: str
    """As ``--set`` takes it: ``plan.limit``."""
    type: str
    """``int >= 1 or null``."""
    choices: tuple[str, ...]
    """All that it may be, where that is a list."""
    default: Any
    description: str
    """In one line."""

    @property
    def default_text(self) -> str:
        """The default as ``--set`` would be given it."""
        if isinstance(self.default, str) and self.default:
            return self.default
        return json.dumps(self.default)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "choices": list(self.choices)}


def run_keys() -> dict[str, KeyHelp]:
    """Every key of a run, with the values of the preset that is taken by default."""
    defaults = RunConfig.model_construct().model_dump(mode="json")
    preset = load_preset(defaults["masks"]["preset"])
    found = {item.key: item for item in describe(RunConfig, merge(defaults, preset))}
    methods, presets = found["attribution.method"], found["masks.preset"]
    named = "; ".join(f"``{name}``: {method.summary}" for name, method in METHODS.items())
    described = f"{methods.description} {named}."
    return found | {
        methods.key: replace(methods, choices=tuple(METHODS), description=described),
        presets.key: replace(presets, choices=tuple(preset_names())),
    }


def describe(
    model: type[BaseModel], defaults: dict[str, Any], prefix: str = ""
) -> Iterator[KeyHelp]:
    """The keys of a section and of the sections in it, in the order of their declaration.

    Args:
        model: the section.
        defaults: its values, by field.
        prefix: of its keys: ``plan.``.
    """
    described = _docstrings(model)
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not ClassSet:
            yield from describe(kind, defaults.get(name, {}), f"{prefix}{name}.")
            continue
        unset = field.get_default(call_default_factory=True, validated_data={})
        choices = tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()
        yield KeyHelp(
            key=prefix + name,
            type=_type_text(kind, field),
            choices=choices,
            # a field that is left out of files while it is off
            default=DEFAULT if kind is ClassSet else defaults.get(name, unset),
            description=" ".join(described.get(name, "").split()),
        )


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field of a model that has one.

    pydantic's own `use_attribute_docstrings` reads every class's source whenever it is imported:
    a quarter of a second at the start of every command and worker.
    """
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(sys.modules[model.__module__])).body
        if isinstance(node, ast.ClassDef) and node.name == model.__name__
    )
    found = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(said))):
                    found[field.target.id] = said
    return found


def _type_text(kind: Any, field: FieldInfo) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_type_text(part, field) for part in get_args(kind))
    if kind is ClassSet:
        return "set, .yaml file or names"
    if kind is types.NoneType:
        return "null"
    if get_origin(kind) is dict:
        return "mapping of a name to a number"
    if get_origin(kind) is tuple:
        return f"list of {get_args(kind)[0].__name__}"
    bounds = [
        f"{sign} {getattr(mark, name)}"
        for mark in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(mark, name, None) is not None
    ]
    return " ".join([kind.__name__, ", ".join(bounds)]).strip()
