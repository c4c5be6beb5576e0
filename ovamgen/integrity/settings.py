"""The configuration of an existing run, from what it wrote down about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovamgen.config import RunConfig, build_config
from ovamgen.plan.planning import Plan
from ovamgen.run.files import digest_of


def saved_config(run: Mapping[str, Any], out: str, *overrides: dict[str, Any]) -> RunConfig:
    """The resolved configuration of a run, on an output.

    Args:
        run: the content of ``run.yaml``.
        out: folder or URL of the run.
        overrides: layers above it, such as where and how fast, which ``run.yaml`` does not hold.

    Raises:
        ConfigError: a value that this ovamgen does not know, or overrides that do not fit.
    """
    identity = run["identity"].items()
    runtime = {k.partition(".")[2]: value for k, value in identity if k.startswith("runtime.")}
    return build_config(dict(run["config"]), {"runtime": runtime, "out": out}, *overrides)


def inputs_of(config: RunConfig, plan: Plan) -> dict[str, str]:
    """sha256 by name of every file that the samples of a run depend on, for its fingerprint.

    Raises:
        ConfigError: the token bank cannot be read.
    """
    if (bank := config.attribution.token_source.file) is None:
        return dict(plan.inputs)
    return {**plan.inputs, "tokens": digest_of(bank)}
