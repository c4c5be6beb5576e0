"""A comparison as Markdown and JSON, beside the paper's own figures, never mixed with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ovamgen import __version__
from ovamgen.classes.loading import default_classes, is_default
from ovamgen.evaluate.comparison import Comparison, Line
from ovamgen.evaluate.judging import Judged
from ovamgen.evaluate.masks import data_set_name, describe_pictures, describe_setup, drawing_note
from ovamgen.evaluate.paper import PAPER_DATA, paper_results
from ovamgen.evaluate.scoring import IouTable, plain_values
from ovamgen.evaluate.tables import (
    SPLITS,
    absent_note,
    left_out_note,
    markdown_table,
    percent,
    rows_by_class,
    score_cells,
    score_head,
    signed,
    split_tables,
)
from ovamgen.masks.iou import TAUS

_S2_NOTE = (
    "In the form of the supplementary's Table S2: class words, the eleven classes that it shows, "
    "and the mIoU over all classes. Rows in italics are the paper's, of COCO-cap and Stable "
    "Diffusion 1.5; pairs are those of picture and class."
)


def comparison_markdown(
    found: Comparison, *, figures: Sequence[str], remarks: Sequence[str]
) -> str:
    """The whole comparison as a page.

    Args:
        found: the results.
        figures: names of the figures beside the page, without ending.
        remarks: sentences that a reader must know first.
    """
    first = found.lines[0].setup
    real = found.pictures.kind == "voc"
    drawn = (
        f"Pictures were noised to strength {found.strength:g} and denoised with their captions; "
        "maps are scored against the exact masks."
        if real
        else "Pictures were drawn again from their prompts and seeds; maps are scored against "
        "people's annotations."
    )
    parts = [
        f"# Methods on {data_set_name(found.pictures)}",
        *remarks,
        f"Model `{first.config.model.id}`, {len(found.reported)} pictures. {drawn} IoU × 100; in "
        f"brackets 95 % bootstrap intervals over pictures ({found.draws} draws)."
        + (
            " The paper's columns are Stable Diffusion 1.5 on the paper's own pictures: they stand "
            "for orientation."
            if _beside_the_paper(found)
            else ""
        ),
        "## Thresholds tuned",
        f"Each τ was chosen on {found.tuned_on}.",
        *_tables(found, tuned=True),
        "## Thresholds of the presets",
        *_tables(found, tuned=False),
        absent_note(_widest(found)),
        "## What tokens gain over words",
        "Difference of mIoU on the same pictures and classes, with the interval of the difference.",
        _gains(found),
        "## By whether the prompt names the class",
        "mIoU at the tuned thresholds.",
        _by_word(found),
    ]
    if _beside_the_paper(found):
        parts += [_S2_NOTE, _table_s2(found)]
    parts += notes(found)
    if _beside_the_paper(found):
        parts += ["## The paper's figures", _paper_note(), _paper_table()]
    if figures:
        parts.append("## Figures")
        parts += [f"![{name}]({name}.png)" for name in figures]
    return "\n\n".join(parts) + "\n"


def comparison_data(found: Comparison, remarks: Sequence[str]) -> dict[str, Any]:
    """The whole comparison as plain values."""
    return {
        "ovamgen_version": __version__,
        "dataset": describe_pictures(found.pictures),
        "model": found.lines[0].setup.config.model.id,
        "strength": found.strength if found.pictures.kind == "voc" else None,
        "reported_pictures": len(found.reported),
        "tuning_pictures": found.tuning_pictures,
        "tuned_on": found.tuned_on,
        "bootstrap": {"draws": found.draws, "seed": found.seed, "confidence": 0.95},
        "remarks": list(remarks),
        "notes": notes(found),
        "rows": [_line_data(found, line) for line in found.lines],
        "gains": [
            {
                "preset": gain.preset,
                "fixed": plain_values(gain.fixed),
                "tuned": plain_values(gain.tuned),
            }
            for gain in found.gains
        ],
        **(
            {"paper": {"model": "Stable Diffusion 1.5", "source": paper_results().source}}
            if _beside_the_paper(found)
            else {}
        ),
    }


def summary_lines(found: Comparison) -> list[str]:
    """The mIoU of every row, for a terminal."""
    head = f"{'':<34}{'τ tuned':>9}  {'mIoU':<20}{'τ preset':>9}  mIoU"
    rows = [
        f"{line.setup.name:<34}{line.tuned.tau:>9.2f}  "
        f"{percent(line.tuned_table.miou, interval=True):<20}{line.fixed.tau:>9.2f}  "
        f"{percent(line.fixed_table.miou, interval=True)}"
        for line in found.lines
    ]
    return [head, *rows]


def notes(found: Comparison) -> list[str]:
    """What a reader of the tables should know."""
    texts = list(found.pictures.notes)
    texts += [left_out_note(line.fixed) for line in found.lines]
    texts.append(drawing_note(found.lines[0].fixed, found.pictures))
    if any(line.setup.rows.source.untrained for line in found.lines):
        texts.append(
            "Tokens are untrained pairs, the text encoder's own rows: what an optimiser starts "
            "from, not what it ends with. Name a bank with --tokens."
        )
    if any(line.setup.method == "daam" and not line.setup.words for line in found.lines):
        texts.append(
            "DAAM with tokens is an extension: the class row stands in for the word's rows of the "
            "prompt during the capture alone."
        )
    if found.pictures.kind == "samples" and any(
        line.setup.method == "attn2mask" for line in found.lines
    ):
        texts.append(
            "Attn2Mask reads the UNet call nearest to timestep 501 of the drawing that was "
            "annotated, since an annotation belongs to one drawing; the paper drew 100-step images "
            "of its own."
        )
    return list(dict.fromkeys(text for text in texts if text))


def _beside_the_paper(found: Comparison) -> bool:
    """The paper's figures are of VOC's classes."""
    return is_default(found.pictures.classes)


def _tables(found: Comparison, *, tuned: bool) -> list[str]:
    """The table of all lines, and that of the classes where there are too many for columns."""
    head = ["method", "by", "preset", "τ", *score_head(found.pictures.classes)]
    published = PAPER_DATA if _beside_the_paper(found) else ()
    head += [f"paper, {data}" for data in published]
    rows, tables = [], {}
    for line in found.lines:
        judged, table = _chosen(line, tuned=tuned)
        setup = line.setup
        tables[setup.name] = table
        label = setup.rows.source.label
        paper = [paper_results().miou(data, setup.method, label) for data in published]
        rows.append(
            [
                setup.method,
                setup.tokens,
                setup.config.masks.preset,
                f"{judged.tau:g}",
                *score_cells(table),
                *("–" if value is None else f"{value:.1f}" for value in paper),
            ]
        )
    by_class = rows_by_class(tables)
    return [markdown_table(head, rows), *([by_class] if by_class else [])]


def _gains(found: Comparison) -> str:
    head = ["preset", "thresholds tuned", "thresholds of the preset"]
    rows = [[gain.preset, signed(gain.tuned), signed(gain.fixed)] for gain in found.gains]
    return markdown_table(head, rows)


def _by_word(found: Comparison) -> str:
    rows = []
    for line in found.lines:
        tables = split_tables(line.tuned.final, draws=found.draws, seed=found.seed)
        cells = [percent(tables[name].miou, interval=True) for name in SPLITS]
        counts = [str(tables[name].rows) for name in SPLITS[:2]]
        rows.append([line.setup.name, *cells, *counts])
    return markdown_table(["row", *SPLITS, "not included (n)", "included (n)"], rows)


def _table_s2(found: Comparison) -> str:
    """The lines of words, each with the paper's row below it where it has one."""
    paper = paper_results()
    classes = {entry.name: entry.phrase for entry in default_classes().classes}
    head = ["row", "word in the prompt", *(classes[n] for n in paper.selected), "mIoU", "pairs"]
    rows = []
    for line in found.lines:
        if not line.setup.words:
            continue
        tables = split_tables(line.tuned.final, draws=found.draws, seed=found.seed)
        for split in SPLITS:
            table = tables[split]
            ious = [percent(table.per_class.get(name)) for name in paper.selected]
            rows.append([line.setup.name, split, *ious, percent(table.miou), str(table.rows)])
            if row := paper.s2(line.setup.method, split):
                printed = [f"{value:.1f}" for value in (*row.iou, row.miou)]
                rows.append([f"*paper: {row.title}*", split, *printed, ""])
    return markdown_table(head, rows)


def _paper_note() -> str:
    return (
        f"From {paper_results().source}: Stable Diffusion 1.5, every method on its own pictures. "
        "The paper's DAAM is `daam-ovam` here. Attn2Mask has no published outputs."
    )


def _paper_table() -> str:
    phrases = [entry.phrase for entry in default_classes().classes]
    head = ["data", "method", "by", *phrases, "mIoU", "overall"]
    rows = [
        [
            row.data,
            row.title,
            row.tokens,
            *(f"{value:.1f}" for value in row.iou),
            f"{row.miou:.1f}",
            f"{row.overall:.1f}",
        ]
        for row in paper_results().rows
    ]
    return markdown_table(head, rows)


def _line_data(found: Comparison, line: Line) -> dict[str, Any]:
    method, label = line.setup.method, line.setup.rows.source.label
    published = PAPER_DATA if _beside_the_paper(found) else ()
    return {
        **describe_setup(line.setup),
        "fixed": _judged_data(found, line.fixed, line.fixed_table),
        "tuned": _judged_data(found, line.tuned, line.tuned_table),
        "left_out": len(line.fixed.left_out),
        "miou_over_tau": [
            {"tau": tau, "tuning": _rounded(tuning), "reported": _rounded(reported)}
            for tau, tuning, reported in zip(
                TAUS, line.tuning.mious(), line.fixed.mious(), strict=True
            )
        ],
        "paper_miou": {data: paper_results().miou(data, method, label) for data in published},
    }


def _judged_data(found: Comparison, judged: Judged, table: IouTable) -> dict[str, Any]:
    splits = split_tables(judged.final, draws=found.draws, seed=found.seed)
    by_word = {name: part.to_json() for name, part in splits.items()}
    return {"tau": judged.tau, **table.to_json(), "by_word": by_word}


def _chosen(line: Line, *, tuned: bool) -> tuple[Judged, IouTable]:
    return (line.tuned, line.tuned_table) if tuned else (line.fixed, line.fixed_table)


def _widest(found: Comparison) -> IouTable:
    """The table over the most classes: methods that lack maps may miss some."""
    return max((line.fixed_table for line in found.lines), key=lambda t: len(t.per_class))


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if value == value else None
