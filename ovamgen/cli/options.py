"""Options that several commands share, and how they become a configuration."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovamgen.console.log_format import show

if TYPE_CHECKING:
    from rich.console import Console

    from ovamgen.classes.class_set import ClassSet
    from ovamgen.config import RunConfig

Classes = Annotated[
    str | None,
    typer.Option(
        metavar="SET|FILE|a,b,c",
        help="The classes of the masks: voc, coco, ade150, cityscapes19, a class file (.yaml), or "
        "names with commas between them ('ovamgen classes' says more).",
        show_default="voc",
    ),
]
Captions = Annotated[
    str | None,
    typer.Option(
        help="COCO captions JSON, CSV, TSV, JSONL, Parquet or text; file or URL, .gz too; or "
        "'demo'. Tables: a column caption (or text, prompt); id, image_id and targets (or class: "
        "names joined by ;) are read where they are."
    ),
]
Instances = Annotated[str | None, typer.Option(help="COCO instances JSON of the same images.")]
Limit = Annotated[int | None, typer.Option(help="At most this many samples.")]
PerClass = Annotated[int | None, typer.Option(help="At most this many samples of each class.")]
Seed = Annotated[int | None, typer.Option(help="The run's seed.")]
ShardSize = Annotated[int | None, typer.Option(help="Samples in a shard.")]
BatchSize = Annotated[int | None, typer.Option(help="Samples in one call of the model.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="mini, a folder, a file (.safetensors), a hub id (ID@REVISION), or random:sd15, "
        "random:sd21, random:sdxl."
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="PATH[=WEIGHT]",
        help="LoRA (.safetensors) that is fused into the model, with a weight of 1 unless another "
        "is given; repeatable.",
    ),
]
Steps = Annotated[int | None, typer.Option(help="num_inference_steps.")]
Guidance = Annotated[float | None, typer.Option(help="guidance_scale.")]
Height = Annotated[int | None, typer.Option(help="Pixels, a multiple of 8.")]
Width = Annotated[int | None, typer.Option(help="Pixels, a multiple of 8.")]
HeadFile = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="FILE",
        help="Network of the methods grounded and datasetdm (see 'ovamgen heads').",
    ),
]
TokenBank = Annotated[
    str | None,
    typer.Option("--tokens", help="Token bank (.safetensors), or 'words' for class words."),
]
Method = Annotated[str | None, typer.Option(help="Attribution method.")]
Workers = Annotated[int | None, typer.Option(help="Pipelines held at once.")]
Runner = Annotated[str | None, typer.Option(help="Ray, or one process.")]
Device = Annotated[str | None, typer.Option(help="Where the model runs.")]
ConfigFile = Annotated[str | None, typer.Option("--config", help="YAML file.")]
ViewSource = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="DIR_OR_URL", help="Of a view: its corpus, where it is not beside it."
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any key that 'ovamgen config' lists, such as synthesis.scheduler=DDIM; repeatable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Out = Annotated[str | None, typer.Option(help="Folder or URL that the run writes to.")]


def asked_classes(place: str | None) -> ClassSet | None:
    """The class set that ``--classes`` names; None where it was not given."""
    from ovamgen.classes.loading import load_class_set

    return None if place is None else load_class_set(place)


def resolve_here(
    file: str | None, flags: dict[str, Any], sets: list[str] | None = None
) -> RunConfig:
    """As `resolve`, on the device that this machine has where neither file nor flags name one.

    Pictures are drawn here, unlike those of a run on a cluster.
    """
    model = flags["model"]
    if file is None and model.get("device") is None and model.get("id") != "mini":
        flags = {**flags, "model": {**model, "device": device_here()}}
    return resolve(file, flags, sets)


def device_here() -> str:
    """The device that this machine has: ``cuda`` or ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve(file: str | None, flags: dict[str, Any], sets: list[str] | None = None) -> RunConfig:
    """The resolved configuration: file, then the flags that were given, then --set."""
    from ovamgen.config import (
        build_config,
        parse_overrides,
        read_config_file,
        with_preset_file,
    )

    given = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in flags.items()
        if isinstance(section, dict)
    }
    given |= {k: v for k, v in flags.items() if not isinstance(v, dict) and v is not None}
    overrides = parse_overrides(sets or [])
    layers = (read_config_file(file) if file else {}, given, overrides)
    return build_config(*with_preset_file(*layers), given_as=options_of(given, overrides))


def options_of(given: dict[str, Any], overrides: dict[str, Any]) -> dict[str, str]:
    """``--limit`` by ``plan.limit``, so that a wrong value is answered by what was typed.

    Args:
        given: the flags that were given, by section and key; every flag is named as its key is,
            but ``--model``, ``--lora`` and ``--crop``.
        overrides: what ``--set`` gave, which is answered by its key.
    """
    from ovamgen.config import flatten

    other = {"model.id": "--model", "model.loras": "--lora", "crop_px": "--crop"}
    return {
        key: other.get(key, f"--{key.rpartition('.')[2].replace('_', '-')}")
        for key in flatten(given).keys() - flatten(overrides).keys()
    }


def typed(context: typer.Context) -> str:
    """The command with the options that were given, as it could be typed again."""
    words = ["ovamgen", *context.command_path.split()[1:]]
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[option.name or ""]
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [option.opts[0], str(one)]
    return shlex.join(words)


def table_console(width: int) -> Console:
    """A console for tables: as wide as the terminal, or ``width`` columns where there is none."""
    from rich.console import Console

    # a pipe has no width of its own
    return Console(width=None if sys.stdout.isatty() else width)


def show_result(result: Any, *, as_json: bool) -> None:
    """Prints a result: its values as JSON for programs, or its lines for people."""
    if as_json:
        data = result.to_json() if hasattr(result, "to_json") else asdict(result)
        show(json.dumps(data, indent=2))
    else:
        show("\n".join(result.lines()))
