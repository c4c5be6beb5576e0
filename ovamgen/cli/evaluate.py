"""``evaluate masks``, ``compare`` and ``table-s1``: how good masks and methods are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovamgen.cli.options import (
    AsJson,
    ConfigFile,
    Device,
    Guidance,
    Limit,
    Model,
    Sets,
    Steps,
    device_here,
    resolve,
)
from ovamgen.console.log_format import say
from ovamgen.console.progress import Progress
from ovamgen.errors import ConfigError

if TYPE_CHECKING:
    from ovamgen.config import RunConfig
    from ovamgen.pictures.picture_set import PictureSet

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
Strength = Annotated[
    float, typer.Option(help="How far real pictures are noised, above 0, at most 1.")
]
Text = Annotated[
    str, typer.Option(help="Attributed for words: {class} alone, or {prompt} for the whole prompt.")
]
Draws = Annotated[int, typer.Option(min=10, help="Bootstrap draws for the intervals.")]


def masks(
    dataset: Dataset,
    out: EvaluationOut,
    model: Model = None,
    method: Annotated[
        str | None, typer.Option(help="Attribution method; by default the preset's.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Mask preset.")] = None,
    tokens: Tokens = None,
    split: Split = None,
    annotations: Annotations = None,
    strength: Strength = DEFAULT_STRENGTH,
    limit: Limit = None,
    text: Text = "{class}",
    crf: Annotated[
        bool | None, typer.Option("--crf/--no-crf", help="Dense CRF; as the preset says.")
    ] = None,
    crf_sweep: Annotated[
        bool, typer.Option("--crf-sweep", help="Dense CRF at every threshold too (slow).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of the noise.")] = 0,
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
    from ovamgen.pictures.picture_set import open_pictures

    pictures = open_pictures(dataset, split=split, annotations=annotations, limit=limit, seed=seed)
    resolved = _configuration(
        pictures,
        flags={
            "model": {"id": model, "device": device},
            "synthesis": {"steps": steps, "guidance": guidance},
            "attribution": {"method": method, "tokens": tokens or "words"},
            "masks": {"preset": preset},
        },
        file=config,
        sets=sets,
    )
    from ovamgen.evaluate.masks import evaluate_masks
    from ovamgen.evaluate.setups import make_setup

    kind = resolved.attribution.token_source.label
    used = resolved.attribution.method
    base = resolved.masks.preset
    name = base if base.startswith(used) else f"{used}-{base}"
    setup = make_setup(f"{name}-{kind}", resolved, text=text)
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
            on_start=counting.start,
            on_drawing=counting.add,
        )
    print(json.dumps(found.data, indent=2) if as_json else "\n".join(found.lines()))


def _configuration(
    pictures: PictureSet, *, flags: dict[str, Any], file: str | None, sets: list[str] | None
) -> RunConfig:
    """The configuration of a command; samples bring the model and settings that drew them."""
    from ovamgen.evaluate.setups import check_drawn_by, sample_sections

    for section, values in sample_sections(pictures).items():
        given = {name: value for name, value in flags[section].items() if value is not None}
        flags[section] = values | given
    if flags["model"].get("device") is None and file is None:
        flags["model"]["device"] = device_here(flags["model"].get("id"))
    resolved = resolve(file, flags, sets)
    check_drawn_by(pictures, resolved)
    return resolved


QUICK_PICTURES = 40
QUICK_DRAWS = 200
QUICK_STEPS = 30


def compare(
    dataset: Dataset,
    out: EvaluationOut,
    model: Model = None,
    tokens: Tokens = None,
    presets: Annotated[
        str | None,
        typer.Option(
            help="Rows, joined by commas, each with words and with tokens. [default: "
            "ovam-voc-sim,daam-ovam,daam,attn2mask-supplementary]"
        ),
    ] = None,
    split: Split = None,
    tune_split: Annotated[
        str | None, typer.Option(help="Another split of a folder as VOC's to tune thresholds on.")
    ] = None,
    tune_fraction: Annotated[
        float | None,
        typer.Option(help="Or a part of the pictures, told by their keys. [default: 0.5]"),
    ] = None,
    annotations: Annotations = None,
    strength: Strength = DEFAULT_STRENGTH,
    limit: Limit = None,
    text: Text = "{class}",
    quick: Annotated[
        bool,
        typer.Option("--quick", help="At most 40 pictures, 30 steps for all, 200 draws: a look."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of the noise.")] = 0,
    draws: Draws = 1000,
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
    from ovamgen.pictures.picture_set import open_pictures

    if tune_split is not None and tune_fraction is not None:
        raise ConfigError("--tune-split and --tune-fraction are two ways to tune: give one")
    if tokens == "words":
        raise ConfigError("--tokens must name a bank or 'untrained': words are compared anyway")
    if quick:
        limit = min(limit or QUICK_PICTURES, QUICK_PICTURES)
        draws, steps = min(draws, QUICK_DRAWS), steps or QUICK_STEPS
    pictures = open_pictures(dataset, split=split, annotations=annotations, limit=limit, seed=seed)
    if quick and pictures.kind == "samples":
        # the steps are those of the drawing that was annotated
        steps = None
    from ovamgen.evaluate.comparison import (
        PRESETS,
        TUNE_FRACTION,
        compare,
        split_by_hash,
        split_by_name,
    )

    if tune_split is not None:
        tune = open_pictures(dataset, split=tune_split, limit=limit, seed=seed)
        parts = split_by_name(pictures, tune)
    else:
        fraction = TUNE_FRACTION if tune_fraction is None else tune_fraction
        parts = split_by_hash(pictures, fraction)
    from pathlib import Path

    from ovamgen.evaluate.setups import make_setup

    names = [name.strip() for name in (presets or ",".join(PRESETS)).split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--presets must name presets, each once, got '{presets}'")
    setups = []
    for preset in names:
        for kind, source in (("words", "words"), ("tokens", tokens or "auto")):
            resolved = _configuration(
                pictures,
                flags={
                    "model": {"id": model, "device": device},
                    "synthesis": {"steps": steps, "guidance": guidance},
                    "attribution": {"tokens": source},
                    "masks": {"preset": preset},
                },
                file=config,
                sets=sets,
            )
            if kind == "tokens" and resolved.attribution.tokens == "words":
                raise ConfigError(
                    f"a comparison needs tokens, and {resolved.model.id} has no bank of its own: "
                    "give --tokens BANK (see 'ovamgen tokens')"
                )
            setups.append(make_setup(f"{preset}-{kind}", resolved, text=text))
    with Progress("drawings") as counting:
        found = compare(
            parts,
            setups,
            Path(out),
            strength=strength,
            draws=draws,
            seed=seed,
            on_start=counting.start,
            on_drawing=counting.add,
            on_judging=lambda name: counting.say(f"scoring {name}"),
        )
    from ovamgen.evaluate.comparison_report import comparison_data, summary_lines
    from ovamgen.evaluate.comparison_write import write_comparison

    remarks = []
    if quick:
        remarks.append(
            "This is a quick look (--quick): at most 40 pictures a split, 30 steps for every "
            "method, 200 bootstrap draws."
        )
    write_comparison(found, Path(out), remarks)
    if as_json:
        print(json.dumps(comparison_data(found, remarks), indent=2))
        return
    print("\n".join([*summary_lines(found), f"written to {out}: comparison.md, comparison.json"]))


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

    settings = build_table_settings(merge(read_config_file(config), parse_overrides(sets or [])))
    if quick:
        settings = settings.quick()
    rows = make_table(settings, out, say)
    if as_json:
        print(json.dumps([row.to_json() for row in rows], indent=2))
    else:
        print(to_markdown(settings, rows), end="")
