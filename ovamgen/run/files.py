"""The files of a run beside its shards: plans and ``run.yaml`` of its generations, read, compared.

A corpus that was never extended has one of each.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import yaml

from ovamgen import fault_points, mini
from ovamgen.bounds import MAX_YAML_BYTES
from ovamgen.classes.loading import as_saved, from_saved
from ovamgen.config import RunConfig, build_config, canonical_json
from ovamgen.errors import ConfigError, ShardError
from ovamgen.plan.planning import Plan
from ovamgen.run.generations import Generation
from ovamgen.shards.output_files import (
    MANIFEST_NAME,
    PLAN_NAME,
    RECORDS,
    RUN_NAME,
    metadata_name,
    plan_name,
    run_name,
    shard_name,
)
from ovamgen.storage.pictures import UNNAMED
from ovamgen.storage.plain_yaml import load_plain_yaml
from ovamgen.storage.store import Store
from ovamgen.storage.urls import without_query

log = logging.getLogger(__name__)

_REQUIRED = {"fingerprint": str, "identity": dict, "model": dict, "config": dict, "inputs": dict}
_SECTIONS = ("plan", "model", "synthesis", "attribution", "masks", "shards", "label")
_PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow", "pyarrow", "pydensecrf2")


def read_plan(store: Store, *, begun: bool = False) -> Plan | None:
    """The plan in the store, of all its generations, or None where there is none.

    Args:
        store: of the run.
        begun: also of an extension that was stopped before its ``run.yaml`` made it one.
    """
    plans: list[Plan] = []
    while store.exists(name := plan_name(len(plans))):
        if plans and not begun and not store.exists(run_name(len(plans))):
            break
        plans.append(Plan.open(store.open(name)))
    return Plan.joined(plans) if plans else None


def write_plan_file(store: Store, plan: Plan, generation: int = 0) -> None:
    """Puts the plan of one generation into the store; it is never held whole."""
    with store.scratch() as folder:
        path = folder / PLAN_NAME
        with path.open("wb") as file:
            plan.write_to(file)
        store.publish_file(path, plan_name(generation))


def has_made_shards(store: Store) -> bool:
    """Whether a shard was ever finished there: what has made none may give way."""
    return store.exists(MANIFEST_NAME) or bool(store.sizes(RECORDS))


def give_way(store: Store, changed: list[str]) -> None:
    """Removes what another configuration began, of which no shard was made; its lock is held.

    The plan itself stays until another replaces it. Whatever is killed on the way leaves a plan,
    alone or with its ``run.yaml``, that gives way as well.

    Args:
        store: of the run.
        changed: in what the other configuration differs, for the log.
    """
    log.warning(
        "%s was begun with another configuration (%s) and no shard was made of it: it is replaced",
        store.url,
        "; ".join(changed),
    )
    plan, saved, names = read_plan(store), read_run_file(store), store.sizes()
    if plan is not None and saved is not None:
        # of writers that were killed before the record: the next plan may have no such shard
        split = saved["config"].get("shards", {}).get("split", "")
        for index in range(len(plan.tasks)):
            for name in {shard_name(split, index), metadata_name(index)} & names.keys():
                store.delete(name)
    store.delete(RUN_NAME)
    fault_points.reach("run.run_file_removed")


def take_generation_back(store: Store, number: int) -> None:
    """Removes an extension of which no shard was made; the store's lock is held.

    Args:
        store: of the corpus.
        number: of its last generation, above 0.
    """
    plan, saved, names = read_plan(store, begun=True), read_run_files(store), store.sizes()
    store.delete(run_name(number))
    fault_points.reach("run.generation_removed")
    if plan is not None and len(plan.generations) > number:
        split = saved[0]["config"]["shards"]["split"]
        for index in range(plan.generations[number].first_shard, len(plan.tasks)):
            for name in {shard_name(split, index), metadata_name(index)} & names.keys():
                store.delete(name)
        store.delete(plan_name(number))


def read_run_file(store: Store) -> dict[str, Any] | None:
    """``run.yaml`` of the store's last generation, or None where no shard was ever begun.

    Raises:
        ConfigError: a file is damaged.
    """
    found = read_run_files(store)
    return found[-1] if found else None


def read_run_files(store: Store) -> list[dict[str, Any]]:
    """``run.yaml`` of each generation of the store; none where no shard was ever begun.

    Raises:
        ConfigError: a file is damaged.
    """
    found: list[dict[str, Any]] = []
    while store.exists(name := run_name(len(found))):
        try:
            found.append(parse_run_file(store.read(name, MAX_YAML_BYTES), len(found)))
        except (ValueError, ShardError) as error:
            raise ConfigError(
                f"{store.url}/{name} is damaged: {error}; restore it, or give another --out"
            ) from None
    return found


def parse_run_file(data: bytes, generation: int = 0) -> dict[str, Any]:
    """The content of a ``run.yaml``.

    Args:
        data: the file.
        generation: number of the generation that it is of.

    Raises:
        ValueError: it is damaged; the text says how.
    """
    try:
        values = load_plain_yaml(data)
    except ValueError as error:
        raise ValueError(f"it cannot be read as YAML: {error}") from None
    if not isinstance(values, dict) or any(
        not isinstance(values.get(name), kind) for name, kind in _REQUIRED.items()
    ):
        raise ValueError(f"it must hold {', '.join(_REQUIRED)}")
    check_sections(values)
    if Generation.of(values).number != generation:
        raise ValueError(f"it must be of generation {generation}")
    return values


def check_sections(run: Mapping[str, Any]) -> None:
    """Checks that the parts of what is told of a run are mappings, as far as they are there.

    Raises:
        ValueError: one is something else; it is named.
    """
    config = run.get("config", {})
    of_run = [*(name for name, kind in _REQUIRED.items() if kind is dict), "versions"]
    parts = {name: run[name] for name in of_run if name in run}
    if isinstance(config, dict):
        parts |= {f"config.{name}": config[name] for name in _SECTIONS if name in config}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise ValueError(f"{name} must be a mapping, got a {type(part).__name__}")


def run_file_bytes(values: Mapping[str, Any]) -> bytes:
    """``run.yaml`` with this content."""
    return yaml.safe_dump(dict(values), sort_keys=True, allow_unicode=True).encode()


PLANNED: dict[str, Any] = {"plan": {"captions": "", "instances": None}}
"""A layer above `saved_config`: what was planned needs no captions."""


def written_down(config: RunConfig) -> dict[str, Any]:
    """The configuration as ``run.yaml`` has it: without the queries of the URLs that it names.

    How fast and where is no property of the corpus, and changes from resume to resume.
    """
    data = config.model_dump(mode="json", exclude={"out", "runtime"})
    for section, name in (
        ("plan", "captions"),
        ("plan", "instances"),
        ("attribution", "tokens"),
        ("attribution", "head"),
        ("label", "pictures"),
    ):
        if url := data.get(section, {}).get(name):
            data[section][name] = without_query(url)
    return data


def saved_config(run: Mapping[str, Any], out: str, *overrides: dict[str, Any]) -> RunConfig:
    """The resolved configuration of a run, on an output.

    Args:
        run: the content of ``run.yaml``.
        out: folder or URL of the run.
        overrides: layers above it, such as where and how fast, which ``run.yaml`` does not hold.

    Raises:
        ConfigError: a value that this ovamgen does not know, or overrides that do not fit.
    """
    # what came with a corpus names no file to be opened
    written = dict(run["config"])
    pictures = written.get("label", {}).get("pictures")
    if pictures and pictures != mini.NAME:
        # somebody's photographs are not for whoever hands out a corpus to choose
        written["label"] = {**written["label"], "pictures": f"{UNNAMED}{pictures}"}
    classes = as_saved(from_saved(written))
    identity = run["identity"].items()
    runtime = {k.partition(".")[2]: value for k, value in identity if k.startswith("runtime.")}
    return build_config(written | classes, {"runtime": runtime, "out": out}, *overrides)


def library_versions() -> dict[str, str]:
    """Versions of everything whose arithmetic or encoders reach a sample's bytes."""
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return versions | {"python": platform.python_version(), "machine": platform.machine()}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """``name: old -> new`` for every value of the new dictionary that differs."""
    names = sorted(name for name in new | old if old.get(name) != new.get(name))
    shown = [name for name in names if name in new]
    return [f"{name}: {_short(old.get(name))} -> {_short(new.get(name))}" for name in shown]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text[:12] + "…" if len(text) == 64 else text
