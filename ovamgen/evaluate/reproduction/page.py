"""The page of a reproduction: every number beside the paper's, every figure, in one HTML file."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from ovamgen.classes.loading import default_classes
from ovamgen.config import TokenSource
from ovamgen.evaluate.paper import PaperRow, SupplementaryRow, paper_results
from ovamgen.evaluate.reproduction.settings import ReproductionSettings, ScoringSettings
from ovamgen.evaluate.tables import SPLITS
from ovamgen.report.page import page_environment, policy_hash

if TYPE_CHECKING:
    from ovamgen.evaluate.reproduction.steps import Places

_PACKAGE = "ovamgen.evaluate.reproduction"
_FIGURE_PX = 1600
_LABELS = ("words", "tokens")
_TITLES = {
    "ovam": "OVAM",
    "daam-ovam": "DAAM",
    "daam": "DAAM, the published library",
    "attn2mask": "Attn2Mask",
    "grounded": "Grounded Diffusion",
    "datasetdm": "DatasetDM",
}
"""The paper's names of the methods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLine:
    """A line of a table: ours, or the paper's."""

    label: str
    by: str
    cells: tuple[str, ...]
    paper: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the page."""

    anchor: str
    title: str
    note: str
    head: tuple[str, ...]
    lines: tuple[TableLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure of the page, inside it."""

    title: str
    source: str
    """A ``data:`` URL."""
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What tokens gain over words by one method: ours, and the paper's."""

    data: str
    title: str
    ours: tuple[str, str, str, str]
    """Words, tokens, gain, interval of the gain."""
    paper: tuple[str, str, str] = field(default=("–", "–", "–"))


def render_reproduction(settings: ReproductionSettings, places: Places) -> str:
    """The page as HTML, a function of what the steps have left.

    Args:
        settings: of the reproduction.
        places: with its results.
    """
    scored = {
        scoring.name: json.loads((places.scores(scoring.name) / "comparison.json").read_text())
        for scoring in settings.scorings
    }
    table = None
    if settings.table_s1 is not None:
        table = json.loads((places.table / "table.json").read_text("utf-8"))["rows"]
    kind = _kind(settings)
    gains = [
        gain
        for scoring in settings.scorings
        for gain in _mask_gains(scoring, scored[scoring.name], kind)
    ]
    tables = []
    for scoring in settings.scorings:
        data = scored[scoring.name]
        tables.append(_class_table(scoring, data, kind))
        if scoring.paper == "COCO-cap":
            tables.append(_table_s2(scoring, data, kind))
    if table is not None:
        gains += _segmentor_gains(table)
        tables.append(_table_s1(table))
    # of the package: safe to stand in the page as it is
    folder = resources.files(_PACKAGE) / "templates"
    style = Markup((folder / "reproduction.css").read_text("utf-8"))
    first = scored[settings.scorings[0].name]
    return (
        page_environment(_PACKAGE)
        .get_template("reproduction.html.j2")
        .render(
            model=first["model"],
            quick=settings.quick_look,
            tuned=settings.thresholds == "tuned",
            scorings=[_told(scoring, scored[scoring.name]) for scoring in settings.scorings],
            gains=gains,
            tables=tables,
            figures=_figures(settings, places),
            losses=_embedded(places.token_report / "loss_curves.png", "Figure S1: loss by step"),
            source=paper_results().source,
            notes=list(dict.fromkeys(note for data in scored.values() for note in data["notes"])),
            style=style,
            style_hash=policy_hash(style),
        )
    )


def _kind(settings: ReproductionSettings) -> str:
    return "tuned" if settings.thresholds == "tuned" else "fixed"


def _told(scoring: ScoringSettings, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": scoring.name,
        "paper": scoring.paper,
        "drawn": data["dataset"]["kind"] == "samples",
        "reported": data["reported_pictures"],
        "tuning": data["tuning_pictures"],
        "draws": data["bootstrap"]["draws"],
    }


def _mask_gains(scoring: ScoringSettings, data: Mapping[str, Any], kind: str) -> list[Gain]:
    by_preset: dict[str, dict[str, Any]] = {}
    for row in data["rows"]:
        by_preset.setdefault(row["preset"], {})[_label(row)] = row
    differences = {gain["preset"]: gain[kind] for gain in data["gains"]}
    found = []
    for preset, rows in by_preset.items():
        method = rows["words"]["method"]
        gain = differences.get(preset)
        words, tokens = (_percent(_value(rows[label][kind]["miou"])) for label in _LABELS)
        printed = [paper_results().row(scoring.paper, method, label) for label in _LABELS]
        found.append(
            Gain(
                data=scoring.paper,
                title=_TITLES[method],
                ours=(
                    words,
                    tokens,
                    _signed(_value(gain)),
                    f"({_signed(gain['low'])} to {_signed(gain['high'])})" if gain else "",
                ),
                **_printed_gain(printed),
            )
        )
    return found


def _segmentor_gains(rows: Sequence[Mapping[str, Any]]) -> list[Gain]:
    by_preset: dict[str, dict[str, Any]] = {}
    for row in rows:
        label = TokenSource(row["tokens"]).label
        by_preset.setdefault(row["preset"], {})[label] = row
    found = []
    for pair in by_preset.values():
        words, tokens = (pair[label]["miou_21_with_background"] for label in _LABELS)
        method = pair["words"]["method"]
        printed = [paper_results().s1(method, label) for label in _LABELS]
        found.append(
            Gain(
                data="Table S1",
                title=_TITLES[method],
                ours=(
                    _percent(words),
                    _percent(tokens),
                    _signed(tokens - words),
                    "one training each",
                ),
                **_printed_gain(printed),
            )
        )
    return found


def _printed_gain(
    printed: Sequence[PaperRow | SupplementaryRow | None],
) -> dict[str, tuple[str, str, str]]:
    words, tokens = printed
    if words is None or tokens is None:
        return {}
    gain = f"{tokens.miou - words.miou:+.1f}"
    return {"paper": (f"{words.miou:.1f}", f"{tokens.miou:.1f}", gain)}


def _class_table(scoring: ScoringSettings, data: Mapping[str, Any], kind: str) -> Table:
    classes = default_classes().classes
    lines = []
    for row in data["rows"]:
        table = row[kind]
        cells = [_percent(_value(table[name])) for name in ("miou", "overall")]
        cells += [_percent(_value(table["per_class"].get(entry.name))) for entry in classes]
        title, label = _TITLES[row["method"]], _label(row)
        lines.append(TableLine(label=title, by=f"{label}, τ {table['tau']:g}", cells=tuple(cells)))
        if printed := paper_results().row(scoring.paper, row["method"], label):
            figures = (printed.miou, printed.overall, *printed.iou)
            cells = [f"{value:.1f}" for value in figures]
            lines.append(
                TableLine(label=f"paper: {title}", by=label, cells=tuple(cells), paper=True)
            )
    return Table(
        anchor=scoring.name,
        title=f"{scoring.paper}: masks by class",
        note="IoU × 100: the mean over classes, all pixels together, and each class.",
        head=("mIoU", "overall", *(entry.phrase for entry in classes)),
        lines=tuple(lines),
    )


def _table_s2(scoring: ScoringSettings, data: Mapping[str, Any], kind: str) -> Table:
    paper = paper_results()
    lines = []
    for row in data["rows"]:
        if _label(row) != "words":
            continue
        title = _TITLES[row["method"]]
        for split in SPLITS:
            table = row[kind]["by_word"][split]
            own = [_value(table["per_class"].get(name)) for name in paper.selected]
            cells = [*map(_percent, own), _percent(_value(table["miou"]))]
            lines.append(TableLine(label=title, by=split, cells=tuple(cells)))
            if printed := paper.s2(row["method"], split):
                lines.append(_printed_line(title, split, printed))
    return Table(
        anchor=f"{scoring.name}-s2",
        title="Table S2: class words, by whether the prompt names the class",
        note="The eleven classes that the supplementary shows; the mIoU is over all classes.",
        head=(*_phrases(paper.selected), "mIoU"),
        lines=tuple(lines),
    )


def _table_s1(rows: Sequence[Mapping[str, Any]]) -> Table:
    paper = paper_results()
    lines = []
    for row in rows:
        title, label = _TITLES[row["method"]], TokenSource(row["tokens"]).label
        own = [row["iou"].get(name) for name in paper.selected]
        cells = [*map(_percent, own), _percent(row["miou_21_with_background"])]
        lines.append(TableLine(label=title, by=label, cells=tuple(cells)))
        if printed := paper.s1(row["method"], label):
            lines.append(_printed_line(title, label, printed))
    return Table(
        anchor="table-s1",
        title="Table S1: segmentors trained on each method's pictures",
        note=f"{rows[0]['images'] if rows else 0} pictures a row; VOC's protocol, the mIoU over 21 "
        "labels, background included. The paper: UperNet with a ResNet-50, 1,000 pictures.",
        head=(*_phrases(paper.selected), "mIoU"),
        lines=tuple(lines),
    )


def _printed_line(title: str, by: str, printed: SupplementaryRow) -> TableLine:
    cells = tuple(f"{value:.1f}" for value in (*printed.iou, printed.miou))
    return TableLine(label=f"paper: {title}", by=by, cells=cells, paper=True)


def _figures(settings: ReproductionSettings, places: Places) -> list[Picture]:
    folder = places.scores(settings.scorings[0].name)
    names = json.loads((folder / "figures.json").read_text("utf-8"))
    # those of the supplementary, by number
    numbered = sorted(name for name in names if name[:1] == "s" and name[1:2].isdigit())
    shown = []
    for name in numbered:
        number, kind, preset = name.split("-", 2)
        title = f"Figure {number.upper()}: {kind}, {preset}"
        shown.append(_embedded(folder / f"{name}.png", title))
    return shown


def _embedded(path: Path, title: str) -> Picture:
    """A figure as WebP inside the page, no wider than a screen needs."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > _FIGURE_PX:
        height = round(picture.height * _FIGURE_PX / picture.width)
        picture = picture.resize((_FIGURE_PX, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Picture(
        title=title,
        source=f"data:image/webp;base64,{data}",
        width=picture.width,
        height=picture.height,
    )


def _phrases(names: Sequence[str]) -> list[str]:
    phrases = {entry.name: entry.phrase for entry in default_classes().classes}
    return [phrases[name] for name in names]


def _label(row: Mapping[str, Any]) -> str:
    return "words" if row["tokens"] == "words" else "tokens"


def _value(found: Mapping[str, float] | None) -> float | None:
    return None if found is None else found["value"]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}"
