"""``evaluate recipe``: the best way to read attention, searched and written as a preset."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ovamgen.cli.evaluate import (
    DEFAULT_STRENGTH,
    Annotations,
    Caption,
    Dataset,
    Draws,
    NoiseSeed,
    ScoredClasses,
    Split,
    Strength,
    Text,
    Tokens,
    TuneFraction,
    drawing_sections,
)
from ovamgen.cli.options import (
    AsJson,
    ConfigFile,
    Device,
    Guidance,
    Limit,
    Model,
    Sets,
    Steps,
    asked_classes,
    resolve_here,
    typed,
)
from ovamgen.console.log_format import show
from ovamgen.console.progress import Progress


def recipe(
    context: typer.Context,
    dataset: Dataset,
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Where the presets go; what was recorded is kept (0.3 MB a picture of mini, about "
            "5 of Stable Diffusion 1.5), so a rerun is quick.",
        ),
    ],
    model: Model = None,
    tokens: Tokens = None,
    split: Split = None,
    classes: ScoredClasses = None,
    tune_split: Annotated[
        str | None,
        typer.Option(help="Another split of a folder as VOC's to choose recipes on."),
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
        typer.Option(
            "--quick", help="At most 40 pictures, 30 steps, 200 draws, a small grid: a look."
        ),
    ] = False,
    steps: Steps = None,
    guidance: Guidance = None,
    device: Device = None,
    config: ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Search for the best way to read OVAM's attention, and write it as a preset.

    With words and with tokens, each by itself. The grid: every set of layers by size; all UNet
    calls, or adjoining thirds of them by timestep (--quick: single thirds); self-attention none (as
    it is, or min-max), received, affinity of power 1, 2 and 4, iterated 3 and 10 times with an
    entropy step of 0.015 and 0.1 (--quick: none, affinity of power 4, iterated 10 times); 19
    thresholds; dense CRF off, and on for the 3 best. Every picture is drawn once. The best recipe
    on one part of the pictures is scored on the other, beside 'ovam' with its own threshold tuned
    in the same way, with an interval of the difference; recipe-words.yaml and recipe-tokens.yaml
    are presets ('--preset FILE').

    Example: `ovamgen evaluate recipe --dataset mini --model mini --quick --out recipe`

    Example: `ovamgen evaluate recipe --dataset voc --split test --tune-split val --model mini
    --out recipe`
    """
    from ovamgen.evaluate.compare import CompareRequest
    from ovamgen.evaluate.recipe.command import record_pictures, search_recorded

    request = CompareRequest(
        dataset=dataset,
        out=out,
        asked=drawing_sections(model, device, steps, guidance),
        tokens=tokens,
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
        recorded = record_pictures(
            request, lambda asked: resolve_here(config, asked, sets), counting
        )
    with Progress("recipes") as counting:
        done = search_recorded(recorded, counting, command=typed(context))
    show(json.dumps(done.data, indent=2) if as_json else "\n".join(done.lines()))
