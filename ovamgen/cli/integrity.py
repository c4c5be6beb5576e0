"""``verify``, ``repair`` and ``replay``: trust in what lies in an output."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovamgen.cli.options import AsJson, ConfigFile, Sets, ViewSource, show_result
from ovamgen.console.log_format import say
from ovamgen.console.progress import tracked
from ovamgen.errors import ConfigError

if TYPE_CHECKING:
    from ovamgen.integrity.findings import Finding

Output = Annotated[str, typer.Argument(metavar="DIR_OR_URL", help="What generate wrote to.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Shards read at once; by default one for each core.")
]


def verify(
    url: Annotated[
        str,
        typer.Argument(
            metavar="DIR_OR_URL", help="What generate, select, reannotate or export hf wrote."
        ),
    ],
    jobs: Jobs = None,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte of an output and say what is not as it must be; changes nothing.

    Ends with 0 where the output is whole, and with 4 where something is damaged, missing or
    foreign, or where the run has not ended.

    Example: `ovamgen verify corpus --json`
    """
    from ovamgen.integrity.verify import verify as run

    found = run(url, jobs=jobs or _cores(), source=source, track=tracked)
    show_result(found, as_json=as_json)
    found.check()


def repair(
    url: Output,
    failed: Annotated[
        bool, typer.Option("--failed", help="Then try failed samples again, with other seeds.")
    ] = False,
    gc: Annotated[
        bool, typer.Option("--gc", help="Remove files that nothing in the output knows.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before --gc removes files.")
    ] = False,
    jobs: Jobs = None,
    config: ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Verify an output, and make again exactly what is missing or damaged.

    Shards are made by the run's own settings, as generate makes them, and get their bytes back;
    an unfinished run is finished. What is whole is not touched.

    Example: `ovamgen repair corpus --set runtime.runner=local`

    Example: `ovamgen repair corpus --failed`
    """
    if failed:
        if gc:
            raise ConfigError("--failed and --gc are two commands: give one of them")
        from ovamgen.integrity.retry import retry_failed

        tried = retry_failed(
            url, overrides=_layers(config, sets), jobs=jobs or _cores(), say=say, track=tracked
        )
        show_result(tried, as_json=as_json)
        tried.left.check()
        return
    from ovamgen.integrity.repair import repair as run

    done = run(
        url,
        gc=gc,
        agree=(lambda findings: True) if yes else _ask,
        overrides=_layers(config, sets),
        jobs=jobs or _cores(),
        say=say,
        track=tracked,
    )
    show_result(done, as_json=as_json)
    done.left.check()


def replay(
    url: Output,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Of the sample: 11 digits.")],
    out: Annotated[
        str | None, typer.Option(help="Folder for the stored and the new image and mask.")
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Make one sample again as the run made it, and say how far it is from the stored one.

    Example: `ovamgen replay corpus 00000000003 --out replayed`

    Where the run had a GPU and this machine has none: `--set model.device=cpu`.
    """
    from ovamgen.integrity.replay import replay as run

    done = run(
        url,
        key,
        out=out,
        overrides=_layers(config, sets),
        say=say,
    )
    show_result(done, as_json=as_json)


def _layers(config: str | None, sets: list[str] | None) -> tuple[dict[str, Any], ...]:
    from ovamgen.config import parse_overrides, read_config_file

    layers = (read_config_file(config) if config else {}, parse_overrides(sets or []))
    return tuple(layer for layer in layers if layer)


def _ask(findings: Sequence[Finding]) -> bool:
    for finding in findings:
        say(finding.line())
    if not sys.stdin.isatty():
        raise ConfigError(
            f"--gc would remove the {len(findings)} files above and there is no terminal to ask "
            "on: give --yes, or leave --gc out"
        )
    return typer.confirm(f"remove these {len(findings)}?", err=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
