"""``evaluate masks``, ``compare``, ``figures`` and ``table-s1``: how good masks and methods are."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ovamgen.cli.options import (
    AsJson,
    ConfigFile,
    Device,
    Guidance,
    HeadFile,
    Limit,
    Model,
    Sets,
    Steps,
    asked_classes,
    resolve_here,
)
from ovamgen.console.log_format import say, show
from ovamgen.console.progress import Progress

DEFAULT_STRENGTH = 0.5

Dataset = Annotated[
    str, typer.Option(metavar="DIR", help="Samples with annotations, or a folder as VOC's.")
]
EvaluationOut = Annotated[
    str, typer.Option(metavar="DIR", help="Where scores go; maps are kept, so a rerun is quick.")
]
Tokens = Annotated[
    str | None, typer.Option(help="Token bank (.safetensors), 'words' or 'untrained'.")
]
Split = Annotated[str | None, typer.Option(help="Of a folder as VOC's. [default: val]")]
Annotations = Annotated[
    str | None, typer.Option(metavar="DIR", help="Annotations of samples that lie elsewhere.")
]
Caption = Annotated[
    str | None,
    typer.Option(
        help="Of every real picture, in place of its own; {classes} becomes 'a cat and a dog'."
    ),
]
Strength = Annotated[
    float, typer.Option(help="How far real pictures are noised, above 0, at most 1.")
]
ScoredClasses = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="SET|FILE|a,b,c",
        help="Score these; labels in VOC's layout are turned into them. [default: DIR's own]",
    ),
]
Text = Annotated[
    str, typer.Option(help="Attributed for words: {class} alone, or {prompt} for the whole prompt.")
]
Draws = Annotated[int, typer.Option(min=10, help="Bootstrap draws for the intervals.")]
Heads = Annotated[
    list[str] | None,
    typer.Option(
        "--head",
        metavar="FILE",
        help="Network of grounded or datasetdm, told by the file; repeatable. [default: those "
        "that ship with mini]",
    ),
]
TuneFraction = Annotated[
    float | None,
    typer.Option(help="Or a part of the pictures, told by their keys. [default: 0.5]"),
]
NoiseSeed = Annotated[int, typer.Option(help="Seed of the bootstrap and of the noise.")]


def masks(
    dataset: Dataset,
    out: EvaluationOut,
    model: Model = None,
    method: Annotated[
        str | None, typer.Option(help="Attribution method; by default the preset's.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Mask preset, or a file of one (.yaml).")
    ] = None,
    tokens: Tokens = None,
    head: HeadFile = None,
    split: Split = None,
    classes: ScoredClasses = None,
    annotations: Annotations = None,
    caption: Caption = None,
    strength: Strength = DEFAULT_STRENGTH,
    limit: Limit = None,
    text: Text = "{class}",
    crf: Annotated[
        bool | None, typer.Option("--crf/--no-crf", help="Dense CRF; as the preset says.")
    ] = None,
    crf_sweep: Annotated[
        bool, typer.Option("--crf-sweep", help="Dense CRF at every threshold too (slow).")
    ] = False,
    seed: NoiseSeed = 0,
    draws: Draws = 1000,
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = None,
    config: ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Score a method's masks against annotations or exact masks.

    DIR is a folder of samples with annotations ('ovamgen samples', 'ovamgen annotate'), or one in
    VOC's layout, whose pictures the model draws again from noise.

    Example: `ovamgen evaluate masks --dataset samples --model mini --method ovam
    --preset ovam-voc-sim --out scores`
    """
    from ovamgen.evaluate.masks import evaluate_masks
    from ovamgen.evaluate.setups import configure, make_setup, tokens_of
    from ovamgen.pictures.picture_set import open_pictures

    pictures = open_pictures(
        dataset,
        split=split,
        annotations=annotations,
        limit=limit,
        seed=seed,
        classes=asked_classes(classes),
        caption=caption,
    )
    resolved = configure(
        pictures,
        {
            **drawing_sections(model, device, steps, guidance),
            "attribution": {
                "method": method,
                "tokens": tokens or ("words" if preset is None else tokens_of(preset)),
                "head": head,
            },
            "masks": {"preset": preset},
        },
        lambda asked: resolve_here(config, asked, sets),
    )
    setup = make_setup(resolved, text=text)
    with Progress("drawings") as counting:
        found = evaluate_masks(
            pictures,
            setup,
            out,
            strength=strength,
            crf=crf,
            crf_sweep=crf_sweep,
            draws=draws,
            seed=seed,
            counting=counting,
        )
    show(json.dumps(found.data, indent=2) if as_json else "\n".join(found.lines()))


def compare(
    dataset: Dataset,
    out: EvaluationOut,
    model: Model = None,
    tokens: Tokens = None,
    head: Heads = None,
    presets: Annotated[
        str | None,
        typer.Option(
            help="Rows, joined by commas, each with words and with tokens. [default: "
            "ovam-voc-sim,daam-ovam,daam,attn2mask-supplementary, and grounded and datasetdm where "
            "there is a head]"
        ),
    ] = None,
    split: Split = None,
    classes: ScoredClasses = None,
    tune_split: Annotated[
        str | None, typer.Option(help="Another split of a folder as VOC's to tune thresholds on.")
    ] = None,
    tune_fraction: TuneFraction = None,
    annotations: Annotations = None,
    caption: Caption = None,
    strength: Strength = DEFAULT_STRENGTH,
    limit: Limit = None,
    text: Text = "{class}",
    seed: NoiseSeed = 0,
    draws: Draws = 1000,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="At most 40 pictures, 30 steps for all, 200 draws: a look."),
    ] = False,
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = None,
    config: ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Compare all methods, with words and with tokens, in one table with the paper's figures.

    Thresholds are tuned on one part of the pictures and reported on the other, beside those of the
    presets.

    Example: `ovamgen evaluate compare --dataset voc --split test --tune-split val --model mini
    --limit 100 --out comparison`
    """
    from ovamgen.evaluate.compare import CompareRequest, compare_data_set

    request = CompareRequest(
        dataset=dataset,
        out=out,
        asked=drawing_sections(model, device, steps, guidance),
        tokens=tokens,
        heads=tuple(head or ()),
        presets=presets,
        split=split,
        tune_split=tune_split,
        tune_fraction=tune_fraction,
        annotations=annotations,
        caption=caption,
        strength=strength,
        limit=limit,
        text=text,
        quick=quick,
        seed=seed,
        draws=draws,
        classes=asked_classes(classes),
    )
    with Progress("drawings") as counting:
        done = compare_data_set(request, lambda asked: resolve_here(config, asked, sets), counting)
    show(json.dumps(done.data, indent=2) if as_json else "\n".join(done.lines()))


def figures(
    dataset: Dataset,
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR", help="Where figures go; maps are kept, those of a comparison are used."
        ),
    ],
    model: Model = None,
    tokens: Tokens = None,
    head: Heads = None,
    presets: Annotated[
        str | None,
        typer.Option(
            help="What is shown, joined by commas, each with words and with tokens. [default: "
            "ovam-voc-sim,daam-ovam, and grounded and datasetdm where there is a head]"
        ),
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="comparison.json of 'evaluate compare': masks at its tuned thresholds. [default: "
            "those of the presets]",
        ),
    ] = None,
    split: Split = None,
    classes: ScoredClasses = None,
    annotations: Annotations = None,
    caption: Caption = None,
    strength: Strength = DEFAULT_STRENGTH,
    text: Text = "{class}",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Show every class in one picture: image, map or mask by its word, the same by its token.

    A PNG and a PDF for each method, in the manner of the paper's figures S3 (heatmaps) and S4 to
    S7 (masks of DAAM, OVAM, Grounded Diffusion and DatasetDM).

    Example: `ovamgen evaluate figures --dataset mini --model mini --out comparison
    --thresholds comparison/comparison.json`
    """
    from ovamgen.evaluate.compare import CompareRequest
    from ovamgen.evaluate.figures import draw_figures

    request = CompareRequest(
        dataset=dataset,
        out=out,
        asked=drawing_sections(model, device, steps, guidance),
        tokens=tokens,
        heads=tuple(head or ()),
        presets=presets,
        split=split,
        annotations=annotations,
        caption=caption,
        strength=strength,
        text=text,
        seed=seed,
        draws=0,
        classes=asked_classes(classes),
    )
    with Progress("drawings") as counting:
        done = draw_figures(
            request,
            lambda asked: resolve_here(config, asked, sets),
            counting,
            thresholds=thresholds,
        )
    show("\n".join(done.lines()))


def table_s1(
    config: Annotated[str, typer.Option("--config", help="YAML: rows, pictures, training.")],
    out: Annotated[str, typer.Option(help="Folder of the table; an interrupted one goes on.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Few pictures and steps: minutes, not results.")
    ] = False,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Train a segmentor on the shards of each method, and score all by the VOC protocol.

    Example: `ovamgen evaluate table-s1 --config jobs/configs/table-s1-mini.yaml --out table`
    """
    from ovamgen.config import merge, parse_overrides, read_config_file
    from ovamgen.evaluate.table_s1 import make_table, to_markdown
    from ovamgen.evaluate.table_s1_settings import build_table_settings

    given = merge(read_config_file(config), parse_overrides(sets or []))
    settings = build_table_settings(given, quick=quick)
    rows = make_table(settings, out, say)
    if as_json:
        show(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        show(to_markdown(settings, rows), end="")


def drawing_sections(
    model: str | None, device: str | None, steps: int | None, guidance: float | None
) -> dict[str, dict[str, Any]]:
    """The sections that say what draws the pictures again, None where nothing was said."""
    return {
        "model": {"id": model, "device": device},
        "synthesis": {"steps": steps, "guidance": guidance},
    }
