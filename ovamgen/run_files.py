"""The files of a run beside its shards: the plan and ``run.yaml``, read and compared."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from typing import Any

import fsspec
import yaml

from ovamgen.config import canonical_json
from ovamgen.errors import ConfigError
from ovamgen.plan.tasks import Plan
from ovamgen.shards.store import Store

PLAN_NAME = "plan.parquet"
RUN_NAME = "run.yaml"

_PACKAGES = ("torch", "diffusers", "transformers", "numpy", "pillow", "pyarrow", "pydensecrf2")


def read_plan(store: Store) -> Plan | None:
    """The plan in the store, or None where there is none."""
    return Plan.from_parquet(store.read(PLAN_NAME)) if store.exists(PLAN_NAME) else None


def read_run_file(store: Store) -> dict[str, Any] | None:
    """``run.yaml`` of the store, or None where no shard was ever begun.

    Raises:
        ConfigError: the file is damaged.
    """
    if not store.exists(RUN_NAME):
        return None
    expected = {"fingerprint": str, "identity": dict, "model": dict, "config": dict}
    try:
        data = yaml.safe_load(store.read(RUN_NAME))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        data = None
    if not isinstance(data, dict) or any(
        not isinstance(data.get(name), kind) for name, kind in expected.items()
    ):
        raise ConfigError(
            f"{store.url}/{RUN_NAME} is damaged: expected {', '.join(expected)}; restore it, or "
            "give another --out"
        )
    return data


def digest_of(url: str) -> str:
    """sha256 (hex) of a file's bytes, local or remote.

    Raises:
        ConfigError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with fsspec.open(url, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"{url} cannot be read: {' '.join(str(error).split())}") from None
    return digest.hexdigest()


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
