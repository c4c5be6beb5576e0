"""All checks in their order."""

from __future__ import annotations

from collections.abc import Iterator

from ovamgen.config import RunConfig, RuntimeConfig
from ovamgen.doctor import inputs, machine
from ovamgen.doctor.findings import Finding, fine, guarded, problem, warning

_INSTALL = "pip install -c constraints.txt --force-reinstall ovamgen"


def examine(config: RunConfig) -> Iterator[Finding]:
    """What stands in the way of a run of the configuration, one check after the other.

    Nothing is loaded, downloaded or left behind. The output is looked at where one is given.
    """
    yield from guarded("versions", _INSTALL, machine.versions)
    yield from guarded("cores", _INSTALL, lambda: machine.cores(config))
    yield from guarded("gpu", _INSTALL, lambda: machine.gpu(config))
    yield from guarded("dense crf", _INSTALL, machine.dense_crf)
    yield from guarded(
        "temporary", "set TMPDIR to a folder that may be written to", machine.temporary_space
    )
    if config.runtime.runner == "ray":
        yield from guarded("ray", _INSTALL, lambda: _ray(config))
    yield from guarded(
        "model", "give --model a folder, a hub id or mini", lambda: inputs.model(config)
    )
    yield from guarded(
        "tokens",
        "give --tokens a bank that fits the model, or 'words'",
        lambda: inputs.tokens(config),
    )
    yield from guarded(
        "head", "give --head a file of that method and model", lambda: inputs.head(config)
    )
    if config.out:
        fix = "give an --out that may be written to, or mend its permissions"
        yield from guarded("output", fix, lambda: inputs.output(config))
        yield from guarded("room", fix, lambda: inputs.room(config))


def _ray(config: RunConfig) -> Iterator[Finding]:
    from ovamgen.cluster.connection import CORRECT, examine_ray

    facts = examine_ray()
    if not facts.is_reachable:
        yield problem(
            "ray",
            facts.message,
            CORRECT,
        )
    elif facts.address and config.model.device == "cuda" and not facts.gpus:
        # who raised the time to wait has a cluster that grows, and a run finds its GPUs there
        grows = config.runtime.gpu_wait_seconds > RuntimeConfig().gpu_wait_seconds
        yield (warning if grows else problem)(
            "ray",
            f"{facts.message}, and {config.model.id} is to run on cuda",
            "add a GPU node, or give --device cpu; for a cluster that grows, raise "
            "runtime.gpu_wait_seconds",
        )
    else:
        yield fine("ray", facts.message)
