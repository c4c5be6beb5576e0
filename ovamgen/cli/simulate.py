"""``bench driver`` and ``bench plan``: scale, simulated on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovamgen.cli.options import AsJson
from ovamgen.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

SaveInto = Annotated[
    Path | None, typer.Option("--out", help="A folder to write the figures to as well.")
]


def driver(
    workers: Annotated[str, typer.Option(help="Numbers of simulated workers.")] = "1,8,64",
    batch_seconds: Annotated[float, typer.Option(help="That a simulated batch takes.")] = 2.0,
    batches: Annotated[int, typer.Option(help="Batches for each worker.")] = 24,
    repeats: Annotated[int, typer.Option(help="Runs for each number; the median counts.")] = 1,
    recovery: Annotated[
        bool, typer.Option(help="Kill a worker as well, and see what is left of the throughput.")
    ] = True,
    out: SaveInto = None,
    as_json: AsJson = False,
) -> None:
    """Run the real driver over workers that only wait: how many can it keep busy?

    Example: `ovamgen bench driver --workers 1,8,64,256 --batch-seconds 2 --json`
    """
    numbers = _numbers("--workers", workers)
    for name, value in (("--batch-seconds", batch_seconds), ("--repeats", repeats)):
        if value <= 0:
            raise ConfigError(f"{name} must be above 0, got {value:g}")
    from ovamgen.bench.scale.bench import bench_driver, driver_tables, save
    from ovamgen.bench.scale.driving import DriveSettings

    settings = DriveSettings(workers=1, batch_seconds=batch_seconds, batches=batches)
    if batches <= settings.warmup:
        raise ConfigError(
            f"--batches must be above {settings.warmup}, of which each worker makes so many "
            f"before they count, got {batches}"
        )
    found = bench_driver(settings, numbers, repeats=repeats, recovery=recovery, say=_say)
    if out is not None:
        from ovamgen.bench.scale.drawing import draw_driver

        _say(f"written to {save(out, 'driver', found)} and {draw_driver(found, out)}")
    _show(found, driver_tables(found), as_json)


def plan(
    captions: Annotated[str, typer.Option(help="Numbers of captions.")] = "100000,1000000",
    shards: Annotated[
        int | None, typer.Option(help="Resume over so many finished shards as well.")
    ] = None,
    out: SaveInto = None,
    as_json: AsJson = False,
) -> None:
    """Plan captions by the million, and resume over many shards: memory and time.

    Example: `ovamgen bench plan --captions 100000,1000000,10000000 --shards 100000`
    """
    numbers = _numbers("--captions", captions)
    if shards is not None and shards < 1:
        raise ConfigError(f"--shards must be at least 1, got {shards}")
    from ovamgen.bench.scale.bench import bench_plan, plan_tables, save

    found = bench_plan(numbers, shards, say=_say)
    if out is not None:
        _say(f"written to {save(out, 'plan', found)}")
    _show(found, plan_tables(found), as_json)


def _numbers(option: str, text: str) -> list[int]:
    """Whole numbers above 0 with commas between them."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"{option} must be numbers above 0 like 1,8,64, got {text!r}")
    return numbers


def _show(found: dict[str, Any], tables: Iterable[Table], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables:
        console.print(table)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
