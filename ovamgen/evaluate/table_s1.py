"""Table S1: a segmentor trained on the shards of each method, words and tokens (section B.1).

For every row the same captions are drawn and labelled by that method, the same network is trained
on the shards, and scored on the same real pictures by the VOC protocol. Every step keeps its output
in the row's folder, so an interrupted table goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ovamgen.classes.loading import default_classes, is_default
from ovamgen.config import RunConfig, TokenSource, canonical_json
from ovamgen.console.progress import RunProgress
from ovamgen.errors import ConfigError
from ovamgen.evaluate.paper import paper_results
from ovamgen.evaluate.table_s1_settings import TableSettings
from ovamgen.evaluate.tables import markdown_table, write_json, write_text
from ovamgen.pictures.voc import VocFolder
from ovamgen.run.local import generate_local
from ovamgen.run.run import open_run
from ovamgen.segmentor.score import score_segmentor
from ovamgen.segmentor.settings import TrainSettings
from ovamgen.segmentor.training import train

REAL = "real pictures"
"""The row of the upper reference."""
_SETTINGS = "settings.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """How the segmentor of one row did."""

    name: str
    method: str
    tokens: str
    preset: str
    images: int
    miou_21_with_background: float | None = None
    """VOC's own mean, in [0, 1]; None where it is not scored yet."""
    miou_20_foreground: float | None = None
    iou: dict[str, float | None] = field(default_factory=dict)


def make_table(
    settings: TableSettings, out: str | Path, say: Callable[[str], None] = print
) -> list[TableRow]:
    """All rows, the upper reference last; ``table.json`` and ``table.md`` grow row by row.

    Args:
        settings: what to make.
        out: folder of the table; one folder a row in ``rows/``.
        say: told what begins.

    Raises:
        ConfigError: settings that cannot be used, or the folder is of another table.
        Interrupted: a signal came; the same command goes on.
    """
    root = Path(out).expanduser()
    # everything that can be wrong with any row is found before the first one takes its minutes
    VocFolder.open(settings.voc, settings.split)
    runs = [settings.run_config(row, root / "rows" / row.name / "corpus") for row in settings.rows]
    for config in runs:
        if not is_default(config.classes):
            raise ConfigError(
                f"Table S1 is of VOC's classes, its runs are to be of {config.classes.identity}: "
                "leave classes out of 'generate'; 'ovamgen train' and 'ovamgen evaluate "
                "segmentor' take any"
            )
    trainings = [
        settings.trainings({"shards": str(root / "rows" / row.name / "corpus")})
        for row in settings.rows
    ]
    reference: tuple[TrainSettings, ...] = ()
    real_images = 0
    if settings.real is not None:
        real_images = len(VocFolder.open(settings.real, settings.real_split))
        reference = settings.trainings({"real": settings.real, "real_split": settings.real_split})
    claim(root, settings.model_dump(mode="json"), "table")
    rows: list[TableRow] = []
    for row, config, training in zip(settings.rows, runs, trainings, strict=True):
        place = root / "rows" / row.name
        say(f"row {len(rows) + 1} of {len(runs)}: {row.name}: drawing {settings.images} pictures")
        images = _generate(config)
        say(f"row {row.name}: training on {images} pictures")
        bare = TableRow(
            name=row.name,
            method=config.attribution.method,
            tokens=config.attribution.tokens.rsplit("/", 1)[-1],
            preset=row.preset,
            images=images,
        )
        rows.append(_score(settings, training, place, bare))
        _write(root, settings, rows)
    if reference:
        say(f"upper reference: training on {real_images} real pictures")
        bare = TableRow(name=REAL, method="", tokens="", preset="", images=real_images)
        rows.append(_score(settings, reference, root / "rows" / "real-pictures", bare))
        _write(root, settings, rows)
    return rows


def train_and_score(
    trainings: Sequence[TrainSettings], place: Path, voc: str, split: str
) -> dict[str, Any]:
    """The scores of a segmentor once it is trained, as in ``scores/scores.json``.

    Args:
        trainings: one after another, each from the segmentor of the one before.
        place: folder of the trainings and the scores; what is done there is kept.
        voc: folder in VOC's layout that is scored on.
        split: of it.

    Raises:
        ConfigError: settings that cannot be used, or the folder is of other trainings.
        Interrupted: a signal came; the same call goes on.
    """
    *first, last = trainings
    for training in first:
        train(training, place / "pretrained")
        last = last.model_copy(update={"init": str(place / "pretrained")})
    train(last, place / "segmentor")
    return score_segmentor(place / "segmentor", voc, split, place / "scores").to_json()


def to_markdown(settings: TableSettings, rows: Sequence[TableRow]) -> str:
    """The table, with how to read it."""
    classes = list(rows[0].iou) if rows else []
    phases = settings.trainings({"real": settings.voc})
    schedule = ", then ".join(f"{t.steps} steps at {t.crop_px} pixels" for t in phases)
    lines = [
        "# Table S1: segmentors trained on each method's shards",
        "",
        f"{settings.images} pictures a row, `{settings.train.get('size', 'small')}` UperNet, "
        f"{schedule}, scored on '{settings.split}' by the VOC protocol; IoU in "
        "per cent.",
        "",
        "| row | method | tokens | preset | mIoU 21 (with background) | mIoU 20 (foreground) |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.method} | {row.tokens} | {row.preset} | "
        f"{_percent(row.miou_21_with_background)} | {_percent(row.miou_20_foreground)} |"
        for row in rows
    ]
    lines += [
        "",
        f"| class | {' | '.join(row.name for row in rows)} |",
        "|---" * (len(rows) + 1) + "|",
    ]
    for name in classes:
        values = " | ".join(_percent(row.iou.get(name)) for row in rows)
        lines.append(f"| {name} | {values} |")
    return "\n".join(lines) + f"\n\n{_beside_the_paper(rows)}\n"


def _beside_the_paper(rows: Sequence[TableRow]) -> str:
    """The eleven classes of the paper's own Table S1, each row above the paper's."""
    paper = paper_results()
    phrases = {entry.name: entry.phrase for entry in default_classes().classes}
    head = ["row", *(phrases[name] for name in paper.selected), "mIoU 21"]
    cells = []
    for row in rows:
        own = [row.iou.get(name) for name in paper.selected]
        cells.append([row.name, *map(_percent, own), _percent(row.miou_21_with_background)])
        if printed := paper.s1(row.method, TokenSource(row.tokens).label):
            figures = [f"{value:.1f}" for value in (*printed.iou, printed.miou)]
            cells.append([f"*paper: {printed.title}, {printed.tokens}*", *figures])
    note = (
        "The eleven classes that the paper's Table S1 shows. Rows in italics are the paper's: "
        "UperNet with a ResNet-50, 1,000 pictures of Stable Diffusion 1.5, VOC's validation set; "
        "its mIoU is over all classes."
    )
    return f"{note}\n\n{markdown_table(head, cells)}"


def _generate(config: RunConfig) -> int:
    """Makes, or completes, the run; the number of its samples."""
    with open_run(config) as run:
        done = sum(record.samples + record.failed for record in run.records.values())
        progress = RunProgress(
            total_samples=run.total_samples, done_samples=done, total_shards=len(run.pending)
        )
        with progress:
            if run.pending:
                generate_local(run, progress)
        run.write_indexes()
        return sum(record.samples for record in run.records.values())


def _score(
    settings: TableSettings, trainings: Sequence[TrainSettings], place: Path, bare: TableRow
) -> TableRow:
    """The row with how its segmentor did, once that is trained."""
    score = train_and_score(trainings, place, settings.voc, settings.split)
    names = ("miou_21_with_background", "miou_20_foreground", "iou")
    return replace(bare, **{name: score[name] for name in names})


def claim(root: Path, asked: dict[str, Any], what: str) -> None:
    """Writes down what the folder is of, a table or a study.

    Raises:
        ConfigError: the folder is of another one.
    """
    place = root / _SETTINGS
    if place.exists():
        if json.loads(place.read_text("utf-8")) != json.loads(canonical_json(asked)):
            raise ConfigError(
                f"{root} holds a {what} of other settings ({place.name}): name another folder, or "
                "remove it"
            )
        return
    write_text(place, canonical_json(asked))


def _write(root: Path, settings: TableSettings, rows: Sequence[TableRow]) -> None:
    data = {"settings": settings.model_dump(mode="json"), "rows": [asdict(row) for row in rows]}
    write_json(root / "table.json", data)
    write_text(root / "table.md", to_markdown(settings, rows))


def _percent(value: float | None) -> str:
    return "absent" if value is None else f"{100 * value:.1f}"
