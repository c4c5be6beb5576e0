"""``train`` and ``evaluate segmentor``: what the shards are for, and how good it became."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ovamgen.cli.options import (
    AsJson,
    ConfigFile,
    Sets,
    ViewSource,
    asked_classes,
    options_of,
)
from ovamgen.console.log_format import show
from ovamgen.console.progress import Progress


def train(
    out: Annotated[str, typer.Option(help="Folder of the training; an interrupted one goes on.")],
    shards: Annotated[
        str | None, typer.Option(help="Folder of a run, or tars such as x-{000000..000009}.tar.")
    ] = None,
    source: ViewSource = None,
    real: Annotated[
        str | None, typer.Option(metavar="VOCDIR", help="Pictures in VOC's layout.")
    ] = None,
    real_share: Annotated[
        float | None, typer.Option(help="Share of real pictures where both are given.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Of the network.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates of the weights.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures in one update.")] = None,
    crop: Annotated[
        int | None, typer.Option(help="Pixels a side; by default 128, of resnet50 512.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    ema_decay: Annotated[
        float | None,
        typer.Option(
            help="Save a running mean of the weights that keeps this at an update: 0.995."
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="ResNet weights (.safetensors); from scratch without.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Segmentor to go on from, such as one on other data.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    device: Annotated[str | None, typer.Option(help="Where it trains.")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Train a segmentation network (UperNet) on shards, on real pictures, or on a mix.

    Example: `ovamgen train --shards corpus --steps 2000 --out segmentor`
    """
    from ovamgen.config import parse_overrides, read_config_file
    from ovamgen.segmentor.settings import build_settings

    flags = {
        "shards": shards,
        "source": source,
        "real": real,
        "real_share": real_share,
        "size": size,
        "steps": steps,
        "batch_size": batch_size,
        "crop_px": crop,
        "learning_rate": learning_rate,
        "ema_decay": ema_decay,
        "backbone": backbone,
        "init": init,
        "seed": seed,
        "device": device,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    file = read_config_file(config) if config else {}
    overrides = parse_overrides(sets or [])
    settings = build_settings(file, given, overrides, given_as=options_of(given, overrides))
    from ovamgen.segmentor.training import train as run

    show("\n".join(run(settings, out).lines()))


def evaluate_segmentor(
    checkpoint: Annotated[str, typer.Option(help="Folder of a training, or its .safetensors.")],
    voc: Annotated[str, typer.Option(metavar="DIR", help="VOC's layout, or a VOCdevkit.")],
    out: Annotated[str, typer.Option(help="Folder for scores.json, scores.md and sheet.png.")],
    split: Annotated[str, typer.Option(help="List in ImageSets/Segmentation.")] = "val",
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="SET|FILE|a,b,c",
            help="Refuse a segmentor of other classes than these. [default: the segmentor's own]",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many pictures.")] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average with the mirrored picture.")
    ] = False,
    predictions: Annotated[
        bool,
        typer.Option(
            "--predictions", help="Write the predicted masks too: OUT/predictions/NAME.png."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a segmentor on a split as VOC does: one confusion matrix over it, 255 left out.

    The classes are the segmentor's; pictures whose labels can tell them are read as of those.

    Example: `ovamgen evaluate segmentor --checkpoint segmentor --voc VOCdevkit --out scores`
    """
    from ovamgen.segmentor.score import score_segmentor

    with Progress("pictures") as counter:
        scored = score_segmentor(
            checkpoint,
            voc,
            split,
            out,
            classes=asked_classes(classes),
            limit=limit,
            mirror=mirror,
            predictions=predictions,
            device=device,
            counter=counter,
        )
    if as_json:
        show(json.dumps(scored.to_json(), indent=2))
    else:
        show(scored.to_text())
