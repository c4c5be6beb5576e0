"""``plan`` and ``generate``: the corpus."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ovamgen.cli.options import (
    AsJson,
    BatchSize,
    Captions,
    Classes,
    ConfigFile,
    Device,
    Guidance,
    HeadFile,
    Height,
    Instances,
    Limit,
    Loras,
    Method,
    Model,
    Out,
    PerClass,
    Runner,
    Seed,
    Sets,
    ShardSize,
    Steps,
    TokenBank,
    Width,
    Workers,
    resolve,
    table_console,
)
from ovamgen.console.log_format import say, show
from ovamgen.errors import ConfigError

if TYPE_CHECKING:
    from ovamgen.plan.summary import PlanSummary


def plan(
    captions: Captions = None,
    classes: Classes = None,
    instances: Instances = None,
    preset: Annotated[str | None, typer.Option(help="Which captions are taken.")] = None,
    per_class: PerClass = None,
    limit: Limit = None,
    seed: Seed = None,
    shard_size: ShardSize = None,
    batch_size: BatchSize = None,
    model: Model = None,
    config: ConfigFile = None,
    sets: Sets = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Decide what to make: writes OUT/plan.parquet and prints what was taken and why not.

    Example: `ovamgen plan --captions captions_val2017.json --per-class 100 --out corpus`

    Example: `ovamgen plan --captions captions.csv --classes yard.yaml --out corpus`
    """
    from ovamgen.generation import summarise
    from ovamgen.run.run import write_plan
    from ovamgen.shards.output_files import PLAN_NAME

    flags = {
        "classes": classes,
        "plan": {
            "captions": captions,
            "instances": instances,
            "preset": preset,
            "per_class": per_class,
            "limit": limit,
            "seed": seed,
            "shard_size": shard_size,
            "batch_size": batch_size,
        },
        "model": {"id": model},
        "out": out,
    }
    resolved = resolve(config, flags, sets)
    made = write_plan(resolved)
    summary = summarise(made, resolved)
    if as_json:
        show(json.dumps(summary.to_json(), indent=2))
    else:
        _show(summary)
        show(f"plan           {resolved.out}/{PLAN_NAME}")


def generate(
    captions: Captions = None,
    classes: Classes = None,
    instances: Instances = None,
    out: Out = None,
    model: Model = None,
    lora: Loras = None,
    tokens: TokenBank = None,
    method: Method = None,
    head: HeadFile = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Mask preset or a file of one (.yaml); or coco-cap, which is about captions (see "
            "plan)."
        ),
    ] = None,
    limit: Limit = None,
    per_class: PerClass = None,
    shard_size: ShardSize = None,
    batch_size: BatchSize = None,
    steps: Steps = None,
    guidance: Guidance = None,
    height: Height = None,
    width: Width = None,
    seed: Seed = None,
    workers: Workers = None,
    runner: Runner = None,
    device: Device = None,
    config: ConfigFile = None,
    sets: Sets = None,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend",
            help="Add shards to a corpus: larger limits, other captions, more classes.",
        ),
    ] = False,
    until_per_class: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Extend until N samples of each class pass 'ovamgen select'; needs --budget.",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(min=1, metavar="M", help="Samples that the corpus may have in all."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its size; write nothing.")
    ] = False,
) -> None:
    """Make the shards, or go on where an earlier run of the same command stopped.

    What has no option of its own is a key, such as the negative prompt and the scheduler:
    'ovamgen config' lists them all.

    Example: `ovamgen generate --captions demo --model mini --limit 40 --out corpus`

    Example: `ovamgen generate --captions demo --model mini --limit 60 --out corpus --extend`

    Example: `ovamgen generate --captions demo --model mini --limit 40 --out corpus
    --until-per-class 2 --budget 60`

    Example: `ovamgen generate --captions demo --classes cat,dog --model mini --out pets`

    Example: `ovamgen generate --captions captions.csv --out corpus --set synthesis.scheduler=DDIM
    --set "synthesis.negative_prompt=drawing, text"`
    """
    from ovamgen.config import is_preset_file, preset_names

    plan_preset = "coco-cap" if preset == "coco-cap" else None
    known = not preset or plan_preset or is_preset_file(preset) or preset in preset_names()
    if not known:
        names = ", ".join([*preset_names(), "coco-cap"])
        raise ConfigError(f"unknown preset '{preset}': known are {names}, or a .yaml file")
    flags = {
        "classes": classes,
        "plan": {
            "captions": captions,
            "instances": instances,
            "preset": plan_preset,
            "per_class": per_class,
            "limit": limit,
            "seed": seed,
            "shard_size": shard_size,
            "batch_size": batch_size,
        },
        "model": {"id": model, "loras": lora or None, "device": device},
        "synthesis": {"steps": steps, "guidance": guidance, "height": height, "width": width},
        "attribution": {"tokens": tokens, "method": method, "head": head},
        "masks": {"preset": None if plan_preset else preset},
        "runtime": {"workers": workers, "runner": runner},
        "out": out,
    }
    resolved = resolve(config, flags, sets)
    if (until_per_class is None) != (budget is None):
        raise ConfigError("--until-per-class and --budget are given together, or neither of them")
    if dry_run and until_per_class is not None:
        raise ConfigError("what --until-per-class adds is known round by round: no --dry-run of it")
    if dry_run:
        from ovamgen.generation import summarise
        from ovamgen.run.inputs import plan_for
        from ovamgen.run.run import plan_of_extension

        made = plan_of_extension(resolved) if extend else plan_for(resolved)
        _show(summarise(made, resolved))
        return
    if until_per_class is not None and budget is not None:
        from ovamgen.generation.growing import generate_until

        grown = generate_until(
            resolved, per_class=until_per_class, budget=budget, extend=extend, say=say
        )
        show("\n".join(grown.lines()))
        grown.check_complete()
        return
    from ovamgen.generation import generate as run

    outcome = run(resolved, extend=extend)
    show("\n".join(outcome.lines()))
    outcome.check_complete()


def _show(summary: PlanSummary) -> None:
    # most tables fit into 100 columns
    summary.render(table_console(100))
