"""``select`` and ``reannotate``: finished shards, handed on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovamgen.cli.options import (
    AsJson,
    Sets,
    ViewSource,
    options_of,
    show_result,
    table_console,
)
from ovamgen.console.log_format import say, show
from ovamgen.console.wording import counted
from ovamgen.errors import ConfigError

if TYPE_CHECKING:
    from ovamgen.corpus.select.select import Selection

Source = Annotated[
    str, typer.Argument(metavar="DIR_OR_URL", help="Folder of a run, or of a view of one.")
]
NewOut = Annotated[str, typer.Option(help="An empty folder; never the one that is read.")]
Partial = Annotated[
    bool, typer.Option("--partial", help="Take the finished shards of a run that goes on.")
]


def select(
    corpus: Source,
    out: NewOut,
    area_quantiles: Annotated[
        str, typer.Option(help="LOW,HIGH: mask areas kept, by class, strictly between; or none.")
    ] = "0.05,0.95",
    keep_uniform: Annotated[
        bool, typer.Option("--keep-uniform", help="Keep images of one colour.")
    ] = False,
    read_pictures: Annotated[
        bool,
        typer.Option(
            "--read-pictures",
            help="Look for images of one colour in the pictures; without it black, white and "
            "greys are found in the metadata.",
        ),
    ] = False,
    clip: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="CLIP model to score images with.")
    ] = None,
    clip_quantile: Annotated[
        float, typer.Option(help="CLIP scores kept, by class, are strictly above this quantile.")
    ] = 0.25,
    min_consistency: Annotated[
        float | None,
        typer.Option(
            help="Least IoU of every target with what is found in the mirrored picture, which the "
            "run's model draws again.",
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="Noise of that drawing: share of the steps gone through.")
    ] = 0.5,
    model: Annotated[
        str | None,
        typer.Option(help="Model of that drawing; by default the run's own.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="Of these models: cpu or cuda.")] = "cpu",
    drop_unsafe: Annotated[
        bool, typer.Option("--drop-unsafe", help="Leave out what the safety checker flagged.")
    ] = False,
    classes: Annotated[
        str | None, typer.Option(help="a,b: samples that show no other class than these.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Least score of every target.")] = None,
    min_area: Annotated[
        float | None, typer.Option(help="Least fraction of the image of every target.")
    ] = None,
    max_area: Annotated[
        float | None, typer.Option(help="Largest fraction of the image of every target.")
    ] = None,
    max_per_class: Annotated[
        int | None, typer.Option(help="At most so many samples of a class.")
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Write new shards; without it a view: keys and reasons.")
    ] = False,
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Keep the good samples of a corpus: a view of it or new shards, and why the others are out.

    Quantiles are taken by class over all samples, as the OVAM authors did for their 20K set; a
    sample with several classes must pass for each. A view's folder is read like a run's.

    Example: `ovamgen select corpus --min-score 0.85 --out selected`

    Example: `ovamgen select corpus --min-consistency 0.5 --device cuda --out consistent`
    """
    from ovamgen.corpus.select.filters import SelectionSettings
    from ovamgen.corpus.select.select import select as run

    settings = SelectionSettings(
        drop_uniform=not keep_uniform,
        read_pictures=read_pictures,
        drop_unsafe=drop_unsafe,
        area_quantiles=_quantiles(area_quantiles),
        clip_quantile=clip_quantile,
        min_consistency=min_consistency,
        classes=tuple(name for name in (classes or "").split(",") if name.strip()),
        min_score=min_score,
        min_area=min_area,
        max_area=max_area,
        max_per_class=max_per_class,
    )
    chosen = run(
        corpus,
        out,
        settings,
        clip=clip,
        model=model,
        strength=strength,
        device=device,
        copy=copy,
        partial=partial,
        source=source,
        say=say,
    )
    if as_json:
        show_result(chosen, as_json=True)
    else:
        _show(chosen)


def reannotate(
    corpus: Source,
    out: NewOut,
    tau: Annotated[float | None, typer.Option(help="Threshold on the heatmaps.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Mask preset, or a file of one; by default the run's own settings."),
    ] = None,
    ignore_low: Annotated[
        float | None, typer.Option(help="Pixels with scores from here on become 255 ...")
    ] = None,
    ignore_high: Annotated[float | None, typer.Option(help="... and below this.")] = None,
    sets: Sets = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; by default one for each core.")
    ] = None,
    partial: Partial = False,
    source: ViewSource = None,
) -> None:
    """Make the masks again from stored heatmaps, with other settings and without a GPU.

    The corpus must have been made with `--set shards.heatmaps=true`. Goes on where it stopped.

    Example: `ovamgen reannotate corpus --tau 0.6 --ignore-low 0.5 --ignore-high 0.6 --out tau06`
    """
    from ovamgen.config import parse_overrides
    from ovamgen.corpus.reannotate import reannotate as run

    given = parse_overrides(sets or [])
    if other := sorted(given.keys() - {"masks"}):
        raise ConfigError(
            f"reannotate changes masks only: expected --set masks.KEY=VALUE, got '{other[0]}'"
        )
    flags = {"tau": tau, "ignore_low": ignore_low, "ignore_high": ignore_high}
    masks: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {workers}")
    done = run(
        corpus,
        out,
        preset=preset,
        overrides=masks | given.get("masks", {}),
        workers=workers or len(os.sched_getaffinity(0)),
        partial=partial,
        source=source,
        given_as=options_of({"masks": masks}, given),
    )
    show("\n".join(done.lines()))
    done.check_complete()


def _quantiles(text: str) -> tuple[float, float] | None:
    if text.strip().lower() == "none":
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--area-quantiles expects two numbers such as 0.05,0.95, or none; got '{text}'"
        ) from None
    return low, high


def _show(chosen: Selection) -> None:
    console = table_console(100)
    console.print(chosen.funnel.table())
    console.print(chosen.funnel.class_table())
    for note in chosen.funnel.notes:
        show(f"note           {note}")
    kind = "new shards" if chosen.copied else "view"
    show(f"{kind:15}{chosen.out} ({counted(chosen.samples, 'sample')})")
