"""``bench``: what things cost, measured here; scale, simulated on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

import typer
from typer.core import TyperGroup

from ovamgen.cli.options import (
    AsJson,
    ConfigFile,
    Device,
    Height,
    Model,
    Sets,
    Steps,
    Width,
    resolve,
    resolve_here,
    table_console,
)
from ovamgen.console import log_format
from ovamgen.console.log_format import show
from ovamgen.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ovamgen.config import RunConfig

BenchBatchSize = Annotated[int, typer.Option("--batch-size", help="Images drawn at once.")]
SaveTo = Annotated[
    Path | None, typer.Option("--save", help="A JSON file to write the figures to as well.")
]
SaveInto = Annotated[
    Path | None, typer.Option("--out", help="A folder to write the figures to as well.")
]


@runtime_checkable
class _Figures(Protocol):
    def to_json(self) -> dict[str, Any]: ...

    def table(self) -> RenderableType: ...


class BenchGroup(TyperGroup):
    """Hands the context that Typer documents, which it does not by itself, to `bench`."""

    context_class = typer.Context


def bench(context: typer.Context, as_json: AsJson = False) -> None:
    """Measure what things cost; without a command, attention and stages of the embedded model.

    Example: `ovamgen bench` (five minutes on two cores)

    Example: `ovamgen bench attention --json`
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise typer.BadParameter("--json stands behind the command that is to print it")
        return
    config = resolve(None, {"model": {"id": "mini", "device": "cpu"}, "synthesis": {"steps": 10}})
    measured = {
        "attention": _attention(config, 8, 7, "4,40", "20"),
        "stages": _stages(config, 8, 5, "128,512", None),
    }
    if as_json:
        figures = {name: found.to_json() for name, found in measured.items()}
        show(json.dumps(figures, indent=2))
        return
    for found in measured.values():
        _show(found, as_json=False)


def attention(
    model: Model = "mini",
    device: Device = None,
    steps: Annotated[int, typer.Option(help="num_inference_steps.")] = 10,
    height: Height = None,
    width: Width = None,
    batch_size: BenchBatchSize = 8,
    rounds: Annotated[int, typer.Option(help="Times that each side is measured.")] = 7,
    memory_steps: Annotated[
        str, typer.Option(help="Two numbers of steps to measure memory at.")
    ] = "4,40",
    classes: Annotated[
        str, typer.Option(help="Numbers of classes whose pairs and words are recorded.")
    ] = "20",
    save: SaveTo = None,
    as_json: AsJson = False,
) -> None:
    """Time plain diffusers, drawing, and drawing with recording, by turns; memory by steps.

    Example: `ovamgen bench attention --rounds 15 --classes 20,80,320,1280`

    Example: `ovamgen bench attention --model random:sd15 --device cpu --batch-size 1 --rounds 2
    --steps 1 --memory-steps 1,2`
    """
    synthesis = {"steps": steps, "height": height, "width": width}
    resolved = resolve_here(
        None, {"model": {"id": model, "device": device}, "synthesis": synthesis}
    )
    measured = _attention(resolved, batch_size, rounds, memory_steps, classes)
    _show(measured, as_json=as_json, save=save)


def _attention(
    config: RunConfig, batch_size: int, rounds: int, memory_steps: str, classes: str
) -> _Figures:
    few, many = _numbers("--memory-steps", memory_steps, count=2)
    from ovamgen.bench.attention import bench_attention

    return bench_attention(
        config,
        batch_size=batch_size,
        rounds=rounds,
        memory_steps=(few, many),
        classes=_numbers("--classes", classes),
        say=_say,
    )


def steps(
    model: Model = "mini",
    device: Device = None,
    height: Height = None,
    width: Width = None,
    batch_size: BenchBatchSize = 8,
    rounds: Annotated[int, typer.Option(help="Times that each way is measured.")] = 5,
    save: SaveTo = None,
    as_json: AsJson = False,
) -> None:
    """Time 30 steps, 4 steps without guidance, and 4 with maps of the finished image, by turns.

    The weights do not matter to the time: any model does, distilled for few steps or not.

    Example: `ovamgen bench steps`

    Example: `ovamgen bench steps --model random:sd15 --device cpu --batch-size 1 --rounds 2`
    """
    from ovamgen.bench.few_steps import bench_few_steps

    synthesis = {"height": height, "width": width}
    config = resolve_here(None, {"model": {"id": model, "device": device}, "synthesis": synthesis})
    measured = bench_few_steps(config, batch_size=batch_size, rounds=rounds, say=_say)
    _show(measured, as_json=as_json, save=save)


def stages(
    model: Model = None,
    device: Device = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    batch_size: BenchBatchSize = 8,
    rounds: Annotated[int, typer.Option(help="Shards that are made and timed.")] = 5,
    crf_sides: Annotated[
        str, typer.Option(help="Pixels of the images that dense CRF is timed on.")
    ] = "128,512",
    place: Annotated[
        str | None,
        typer.Option("--store", help="Folder or URL to write to; nothing stays there."),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    save: SaveTo = None,
    as_json: AsJson = False,
) -> None:
    """Time and bytes of each stage of a sample in one process, and images a second.

    Example: `ovamgen bench stages`

    Example: `ovamgen bench stages --config run.yaml --store s3://bucket/trial --rounds 9`
    """
    if model is None and config is None:
        model = "mini"
    flags = {
        "model": {"id": model, "device": device},
        "synthesis": {"steps": steps, "height": height, "width": width},
    }
    measured = _stages(resolve_here(config, flags, sets), batch_size, rounds, crf_sides, place)
    _show(measured, as_json=as_json, save=save)


def _stages(
    config: RunConfig, batch_size: int, rounds: int, crf_sides: str, place: str | None
) -> _Figures:
    sides = _numbers("--crf-sides", crf_sides)
    import tempfile
    import uuid

    from ovamgen.bench.stages import bench_stages
    from ovamgen.storage.store import open_store

    with tempfile.TemporaryDirectory(prefix="ovamgen-bench-") as folder:
        url = folder if place is None else f"{place.rstrip('/')}/ovamgen-bench-{uuid.uuid4().hex}"
        try:
            return bench_stages(
                config,
                open_store(url),
                batch_size=batch_size,
                rounds=rounds,
                crf_sides=sides,
                say=_say,
            )
        finally:
            if place is not None and "://" not in place:
                import shutil

                shutil.rmtree(Path(url).expanduser(), ignore_errors=True)


def gpu(
    model: Model = "random:sd15",
    device: Annotated[str, typer.Option(help="cuda, or cpu for a dry run.")] = "cuda",
    steps: Annotated[int, typer.Option(help="num_inference_steps.")] = 30,
    height: Height = None,
    width: Width = None,
    batch_sizes: Annotated[str, typer.Option(help="Images drawn at once, by comma.")] = "1,4,8,16",
    tries: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="COMBINATION",
            help="fp32, fp16 or bf16, with +channels_last, +fused, +compile, +graphs; repeatable. "
            "By default today's, each switch by itself, and together.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Times that each kind is measured.")] = 5,
    save: SaveTo = None,
    as_json: AsJson = False,
) -> None:
    """Images a second by combination of switches and batch size, against the floor by arithmetic.

    Ray is not needed. With --save the figures are written after every row: what was measured before
    a run was cut is there.

    Example: `ovamgen bench gpu --save gpu.json`

    Example: `ovamgen bench gpu --try fp16 --try bf16+channels_last+compile --batch-sizes 8,32`

    Example: `ovamgen bench gpu --device cpu --model mini --steps 2 --batch-sizes 1 --try fp32 --try
    fp32+fused`
    """
    synthesis = {"steps": steps, "height": height, "width": width}
    resolved = resolve(None, {"model": {"id": model, "device": device}, "synthesis": synthesis})
    sizes = _numbers("--batch-sizes", batch_sizes)
    from ovamgen.bench.combinations import parse_all
    from ovamgen.bench.gpu import bench_gpu

    measured = bench_gpu(
        resolved,
        combinations=parse_all(tries or (), resolved.model.device),
        batch_sizes=sizes,
        rounds=rounds,
        save=lambda found: _save(found, save),
        say=_say,
    )
    _show(measured, as_json=as_json)


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
    counts = _numbers("--workers", workers)
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
    found = bench_driver(settings, counts, repeats=repeats, recovery=recovery, say=_say)
    if out is not None:
        from ovamgen.bench.scale.drawing import draw_driver

        _say(f"written to {save(out, 'driver', found)} and {draw_driver(found, out)}")
    _print(found, driver_tables(found), as_json=as_json)


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
    counts = _numbers("--captions", captions)
    if shards is not None and shards < 1:
        raise ConfigError(f"--shards must be at least 1, got {shards}")
    from ovamgen.bench.scale.bench import bench_plan, plan_tables, save

    found = bench_plan(counts, shards, say=_say)
    if out is not None:
        _say(f"written to {save(out, 'plan', found)}")
    _print(found, plan_tables(found), as_json=as_json)


def _say(line: str) -> None:
    log_format.say(line, event="progress")


def _show(figures: _Figures, *, as_json: bool, save: Path | None = None) -> None:
    _save(figures, save)
    _print(figures.to_json(), [figures.table()], as_json=as_json)


def _print(found: dict[str, Any], tables: Iterable[RenderableType], *, as_json: bool) -> None:
    if as_json:
        show(json.dumps(found, indent=2))
        return
    console = table_console(120)
    for table in tables:
        console.print(table)


def _save(figures: _Figures, path: Path | None) -> None:
    if path is None:
        return
    from ovamgen.storage.whole_files import write_whole

    text = json.dumps(figures.to_json(), indent=2) + "\n"
    write_whole(path, text.encode(), make_folder=True)


def _numbers(option: str, text: str, *, count: int | None = None) -> list[int]:
    """Whole numbers of at least 1, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    wanted = f"{count} whole numbers" if count else "whole numbers"
    if not all(part.isdecimal() and int(part) for part in parts) or count not in (None, len(parts)):
        raise ConfigError(
            f"{option} expects {wanted} of at least 1 by comma, such as "
            f"{'4,40' if count else '1,8'}, got '{text}'"
        )
    return [int(part) for part in parts]
