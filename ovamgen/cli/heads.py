"""``heads``: train, import and show the networks of Grounded Diffusion and DatasetDM."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ovamgen.cli.options import Device, resolve_here
from ovamgen.console.log_format import show

Out = Annotated[str, typer.Option(help="The .safetensors file to write.")]


def train(
    kind: Annotated[
        Literal["grounded", "datasetdm"],
        typer.Argument(metavar="KIND", help="grounded or datasetdm: whose network it is."),
    ],
    pictures: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Annotated samples, a folder as VOC's, or mini: the exact masks that ship.",
        ),
    ],
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(
            help="Whose features are learnt from; of samples that which drew them. "
            "[default: the one that drew the samples, else that of a run]"
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Schedule and sizes. [default: KIND-mini for mini, else KIND-published]"),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a folder as VOC's. [default: val]")] = None,
    annotations: Annotated[
        str | None, typer.Option(metavar="DIR", help="Annotations of samples that lie elsewhere.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many pictures, of every class in turn.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Updates of the weights. [default: the preset's]")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", help="At the first step. [default: the preset's]")
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of the pictures that is scored. [default: the preset's]"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order and points. [default: the preset's]")
    ] = None,
    halves: Annotated[
        bool, typer.Option("--halves", help="Write float16: half the size, numbers rounded.")
    ] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of a preset (ovamgen/presets/heads), such as width=64; repeatable.",
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Train a head on pictures with masks, or go on where it stopped.

    Features are those of the last UNet call: samples are drawn again with their own settings, real
    pictures are encoded and noised. Checkpoints, log and scores of held-out pictures lie in
    OUT.training; a training that was stopped goes on from there to the same weights.

    Example: `ovamgen heads train grounded --pictures mini --model mini --steps 300 --out
    head.safetensors`

    Example: `ovamgen heads train datasetdm --pictures VOCdevkit --split train --out
    datasetdm.safetensors`
    """
    from ovamgen.config import parse_overrides
    from ovamgen.heads.command import HeadTrainRequest, train_from

    done = train_from(
        HeadTrainRequest(
            kind=kind,
            pictures=pictures,
            out=out,
            preset=preset,
            split=split,
            annotations=annotations,
            limit=limit,
            model={"id": model, "device": device},
            settings={
                "steps": steps,
                "learning_rate": learning_rate,
                "held_out": held_out,
                "seed": seed,
                **parse_overrides(sets or []),
            },
            halves=halves,
        ),
        lambda sections: resolve_here(None, sections),
    )
    show("\n".join(done.lines()))


def import_head(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="The authors' .pth, or a head of ours.")
    ],
    out: Out,
    halves: Annotated[
        bool, typer.Option("--halves", help="Write float16: half the size, numbers rounded.")
    ] = False,
) -> None:
    """Read the authors' checkpoint as tensors alone, and write a head that any command takes.

    Nothing in the checkpoint is executed: one that holds anything but tensors is refused. Which of
    the two networks it is, is told by its tensors.

    Example: `ovamgen heads import grounded-diffusion.pth --out grounded.safetensors`
    """
    from ovamgen.attribution.heads.head_file import describe, import_head

    show("\n".join(describe(import_head(checkpoint, out, halves=halves), out)))


def show_head(
    head: Annotated[str, typer.Argument(metavar="HEAD", help="A .safetensors file or URL.")],
) -> None:
    """Show a head: kind, sizes, classes, digest, and where it is from.

    Example: `ovamgen heads show head.safetensors`
    """
    from ovamgen.attribution.heads.head_file import describe
    from ovamgen.attribution.heads.reading import read_head

    show("\n".join(describe(read_head(head), head)))
