"""``status`` and ``doctor``: how a run is doing, and whether one could."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ovamgen.cli.options import (
    AsJson,
    ConfigFile,
    Device,
    Loras,
    Model,
    Out,
    Sets,
    resolve,
    show_result,
)
from ovamgen.console.log_format import show


def status(
    out: Annotated[str, typer.Argument(metavar="DIR_OR_URL")],
    as_json: AsJson = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again, until the run is complete.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks of --watch.")
    ] = 10.0,
) -> None:
    """Say how far an output is, what failed, how fast it goes and what is slow.

    It reads the output alone, so it may be asked from anywhere, while a run goes on or after it.

    Example: `ovamgen status corpus --watch`
    """
    if watch:
        from ovamgen.run.drain import Interrupted
        from ovamgen.status.watch import watch as look_on

        try:
            look_on(out, every_seconds=interval, as_json=as_json)
        except Interrupted as stop:
            # only the looking on was stopped
            raise typer.Exit(stop.exit_code) from None
        return
    from ovamgen.status.status import run_status

    show_result(run_status(out), as_json=as_json)


def doctor(
    out: Out = None,
    model: Model = None,
    lora: Loras = None,
    tokens: Annotated[str | None, typer.Option(help="Token bank, or 'words'.")] = None,
    device: Device = None,
    runner: Annotated[str | None, typer.Option(help="Ray, or one process.")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine and the inputs for a run; exits with 1 where something is in the way.

    What is not given is as in `generate`: without options it is about the default model on a GPU.
    Nothing is downloaded, no weights are loaded, and nothing is left behind.

    Example: `ovamgen doctor --config run.yaml --out s3://bucket/corpus`
    """
    flags = {
        "model": {"id": model, "loras": lora or None, "device": device},
        "attribution": {"tokens": tokens},
        "runtime": {"runner": runner},
        "out": out,
    }
    resolved = resolve(config, flags, sets)
    from ovamgen.doctor.examine import examine

    findings = []
    for finding in examine(resolved):
        findings.append(finding)
        if not as_json:
            show("\n".join(finding.lines()))
    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        found = {"ok": not problems, "checks": [finding.to_json() for finding in findings]}
        show(json.dumps(found, indent=2))
    elif problems:
        show(f"{problems} problem{'s' * (problems != 1)}")
    if problems:
        raise typer.Exit(1)
