"""``label``: a corpus of pictures that are there already."""

from __future__ import annotations

from typing import Annotated

import typer

from ovamgen.cli.options import (
    BatchSize,
    Classes,
    ConfigFile,
    Device,
    HeadFile,
    Height,
    Limit,
    Loras,
    Method,
    Model,
    Out,
    Runner,
    Seed,
    Sets,
    ShardSize,
    TokenBank,
    Width,
    Workers,
    resolve,
)
from ovamgen.console.log_format import show
from ovamgen.errors import ConfigError


def label(
    pictures: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|TAR|URL",
            help="Folder of pictures, a .tar of them, or a URL of one: JPEG, PNG, WebP, BMP, TIFF.",
        ),
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="What pictures show: a table (CSV, TSV, JSONL, Parquet) with a column picture, "
            "and caption or classes (names joined by ;); or COCO captions JSON; mini for "
            "its own pictures. Without one the classes are found.",
        ),
    ] = None,
    classes: Classes = None,
    out: Out = None,
    model: Model = None,
    lora: Loras = None,
    tokens: TokenBank = None,
    method: Method = None,
    head: HeadFile = None,
    preset: Annotated[str | None, typer.Option(help="Mask preset.")] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="Of classes that nothing tells: those that reach this score are kept."),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="T,T,...",
            help="Timesteps at which a picture is noised and looked at once each.",
        ),
    ] = None,
    limit: Limit = None,
    shard_size: ShardSize = None,
    batch_size: BatchSize = None,
    height: Height = None,
    width: Width = None,
    seed: Seed = None,
    workers: Workers = None,
    runner: Runner = None,
    device: Device = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Make masks for pictures that are there, or go on where an earlier run of it stopped.

    Each picture is encoded, noised to a few timesteps and looked at by the UNet; masks, shards and
    resuming are those of 'ovamgen generate'. A JPEG of the right size goes into the shard as it is,
    with whatever is written in it; others are scaled, their shorter side to the model's own. The
    metadata of a shard has each picture's name and size.

    Example: `ovamgen label --pictures mini --model mini --limit 8 --out labelled`

    Example: `ovamgen label --pictures photos --captions photos.csv --out labelled`

    Example: `ovamgen label --pictures photos --classes cat,dog --model mini --out labelled`

    Example: `ovamgen label --pictures s3://bucket/photos --probe 261,101,21 --out s3://bucket/masks`
    """
    from ovamgen.generation import generate as run

    timesteps = None
    if probe is not None:
        try:
            timesteps = [int(part) for part in probe.split(",")]
        except ValueError:
            raise ConfigError(
                f"--probe must be timesteps with commas between them, such as 261,101,21, got "
                f"'{probe}'"
            ) from None
    flags = {
        "classes": classes,
        "plan": {
            "captions": captions,
            "limit": limit,
            "seed": seed,
            "shard_size": shard_size,
            "batch_size": batch_size,
        },
        "model": {"id": model, "loras": lora or None, "device": device},
        "synthesis": {"height": height, "width": width},
        "attribution": {"tokens": tokens, "method": method, "head": head, "probe": timesteps},
        "masks": {"preset": preset},
        "label": {"pictures": pictures, "min_score": min_score},
        "runtime": {"workers": workers, "runner": runner},
        "out": out,
    }
    resolved = resolve(config, flags, sets)
    if not resolved.label.pictures:
        raise ConfigError("no pictures were named: use --pictures FOLDER, a .tar, or a URL")
    outcome = run(resolved)
    show("\n".join(outcome.lines()))
    outcome.check_complete()
