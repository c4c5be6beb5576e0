"""One method's masks scored on one data set: ``ovamgen evaluate masks``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovamgen import __version__
from ovamgen.classes.loading import is_default
from ovamgen.console.progress import Progress
from ovamgen.errors import MethodError
from ovamgen.evaluate.judging import Judged, judge
from ovamgen.evaluate.plots import COLOURS, Curve, plot_miou_over_tau
from ovamgen.evaluate.recording import record
from ovamgen.evaluate.scoring import BOOTSTRAP_DRAWS, IouTable, iou_table, plain_values
from ovamgen.evaluate.setups import Setup
from ovamgen.evaluate.tables import (
    absent_note,
    class_table,
    left_out_note,
    per_image_csv,
    percent,
    split_tables,
    write_json,
    write_text,
)
from ovamgen.masks.iou import TAUS
from ovamgen.pictures.picture_set import PictureSet

SCORES = "scores"
PER_IMAGE = "per_image.csv"
PLOT = "miou_over_tau"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MaskScores:
    """The scores of one setup, and where they were written."""

    out: Path
    pictures: PictureSet
    judged: Judged
    tables: dict[str, IouTable]
    """Tables of the final masks, by whether the prompt names the class."""
    plain: IouTable
    """Table of the masks before the dense CRF."""
    data: dict[str, Any]
    """As in ``scores.json``."""

    def lines(self) -> list[str]:
        """As text for people."""
        table = self.tables["all"]
        classes = f"{len(table.per_class)} classes, {table.pictures} pictures"
        text = [
            f"mIoU           {percent(table.miou, interval=True)}  ({classes})",
            f"overall        {percent(table.overall, interval=True)}",
        ]
        if self.judged.refined is not None:
            text.append(f"without CRF    {percent(self.plain.miou, interval=True)}")
        text += [f"{name:<14} {percent(self.tables[name].miou)}" for name in list(self.tables)[:2]]
        redrawn = drawing_note(self.judged, self.pictures)
        notes = [*self.pictures.notes, left_out_note(self.judged), redrawn]
        text += [f"NOTE: {note}" for note in notes if note]
        return [
            *text,
            f"scores         {self.out / SCORES}.json, .md, {PER_IMAGE}, {PLOT}.png, .pdf",
        ]


def evaluate_masks(
    pictures: PictureSet,
    setup: Setup,
    out: str | Path,
    *,
    strength: float,
    crf: bool | None = None,
    crf_sweep: bool = False,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    counting: Progress | None = None,
) -> MaskScores:
    """Scores a setup's masks and writes JSON, Markdown, CSV and a plot.

    Args:
        pictures: what is scored.
        setup: the method, its words or tokens, and the settings of its masks.
        out: the folder to write; maps are kept in it, so that a stopped evaluation goes on.
        strength: of image-to-image, for real pictures.
        crf: whether masks are refined; as the preset says where None.
        crf_sweep: refine at every threshold of the sweep too.
        draws: of the bootstrap.
        seed: of the bootstrap.
        counting: is told of the drawings.

    Raises:
        ConfigError: something does not fit, or the folder cannot be written.
        MethodError: no picture has a map by this method.
    """
    folder = Path(out)
    recordings = record(pictures, [setup], folder, strength=strength, counting=counting)
    judged = judge(pictures, setup, recordings, crf=crf, crf_sweep=crf_sweep)
    check_judged(judged)
    tables = split_tables(judged.final, draws=draws, seed=seed)
    plain = iou_table(judged.plain, draws=draws, seed=seed)
    sweep = sweep_tables(judged, draws=draws, seed=seed)
    found = MaskScores(
        out=folder,
        pictures=pictures,
        judged=judged,
        tables=tables,
        plain=plain,
        data=_data(pictures, judged, tables, plain, sweep, strength, draws, seed),
    )
    write_text(folder / f"{SCORES}.md", _markdown(found, draws))
    write_text(folder / PER_IMAGE, per_image_csv(judged))
    curve = Curve(
        label=setup.name,
        miou=_values(sweep, "value"),
        low=_values(sweep, "low"),
        high=_values(sweep, "high"),
        colour=COLOURS[0],
        tau=judged.tau,
    )
    title = f"{setup.name} on {data_set_name(pictures)}"
    plot_miou_over_tau([curve], title, folder / PLOT)
    # last, as the mark that everything is there
    write_json(folder / f"{SCORES}.json", found.data)
    return found


def check_judged(judged: Judged) -> None:
    """Checks that at least one picture has a score.

    Raises:
        MethodError: none has; the first reason is named.
    """
    if not judged.plain.keys:
        reason = judged.left_out[0].reason if judged.left_out else "no picture was scored"
        raise MethodError(f"{judged.setup.name} has no map of any picture: {reason}")


def sweep_tables(judged: Judged, *, draws: int, seed: int) -> list[IouTable]:
    """The table at each of `TAUS`, without dense CRF."""
    return [
        iou_table(
            judged.plain.at(step, judged.intersections, judged.unions), draws=draws, seed=seed
        )
        for step in range(len(TAUS))
    ]


def data_set_name(pictures: PictureSet) -> str:
    """The data set and its split, for titles."""
    return f"{pictures.name} ({pictures.split})" if pictures.split else pictures.name


def describe_pictures(pictures: PictureSet) -> dict[str, Any]:
    """A data set as plain values for JSON; its classes where they are not VOC's."""
    told = {"name": pictures.name, "kind": pictures.kind, "split": pictures.split}
    return told if is_default(pictures.classes) else told | {"classes": pictures.classes.name}


def drawing_note(judged: Judged, pictures: PictureSet) -> str:
    """The sentence that says when redrawn samples are not the stored ones, or ""."""
    if pictures.kind != "samples":
        return ""
    other = {key: value for key, value in judged.differences.items() if value > 0}
    if not other:
        return ""
    worst = max(other, key=lambda key: other[key])
    return (
        f"{len(other)} of {len(judged.differences)} samples were not redrawn bit for bit, {worst} "
        f"differs most (by {other[worst]:.2f} levels of 255 on average): another machine, version "
        "or model than drew them; large differences make the scores meaningless"
    )


def describe_setup(setup: Setup) -> dict[str, Any]:
    """A setup as plain values for JSON."""
    config = setup.config
    head = {} if setup.head is None else {"head_sha256": setup.head.head.sha256}
    return {
        "name": setup.name,
        "method": setup.method,
        "preset": config.masks.preset,
        "tokens": setup.tokens,
        "token_bank_sha256": setup.rows.digest,
        **head,
        "text": setup.text if setup.words else "",
        "branch": config.attribution.branch,
        "masks": config.masks.model_dump(mode="json"),
    }


def _data(
    pictures: PictureSet,
    judged: Judged,
    tables: dict[str, IouTable],
    plain: IouTable,
    sweep: list[IouTable],
    strength: float,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    setup = judged.setup
    refined: list[dict[str, float] | None] = [None] * len(TAUS)
    if judged.refined_sweep is not None:
        steps = [judged.plain.at(step, *judged.refined_sweep) for step in range(len(TAUS))]
        refined = [plain_values(iou_table(rows, draws=draws, seed=seed).miou) for rows in steps]
    differences = list(judged.differences.values())
    return {
        "ovamgen_version": __version__,
        "dataset": describe_pictures(pictures),
        "model": setup.config.model.id,
        "setup": describe_setup(setup),
        "tau": judged.tau,
        "dense_crf": judged.refined is not None,
        "strength": strength if pictures.kind == "voc" else None,
        "drawing": {
            "identical": sum(value == 0 for value in differences),
            "mean_difference": round(float(np.mean(differences)), 6),
            "largest_difference": round(max(differences), 6),
        },
        "bootstrap": {"draws": draws, "seed": seed, "confidence": 0.95},
        "notes": list(pictures.notes),
        "left_out": [
            {"key": left.key, "class_name": left.class_name, "reason": left.reason}
            for left in judged.left_out
        ],
        "scores": {name: table.to_json() for name, table in tables.items()},
        "without_crf": plain.to_json(),
        "sweep": [
            {
                "tau": tau,
                "miou": plain_values(table.miou),
                "overall": plain_values(table.overall),
                "miou_with_crf": crf,
            }
            for tau, table, crf in zip(TAUS, sweep, refined, strict=True)
        ],
        "best_tau_on_these_pictures": judged.best_tau(),
    }


def _markdown(found: MaskScores, draws: int) -> str:
    judged, setup = found.judged, found.judged.setup
    masks = setup.config.masks
    refined = "with" if judged.refined is not None else "without"
    parts = [
        f"# {setup.name} on {data_set_name(found.pictures)}",
        f"Method `{setup.method}` with {setup.tokens}, preset `{masks.preset}`, "
        f"τ = {judged.tau:g}, {refined} dense CRF, model `{setup.config.model.id}`. IoU × 100; in "
        f"brackets 95 % bootstrap intervals over pictures ({draws} draws).",
        class_table(found.tables),
        absent_note(found.tables["all"]),
    ]
    if judged.refined is not None:
        parts += ["Without dense CRF:", class_table({"all": found.plain})]
    best = judged.best_tau()
    parts.append(
        f"On these very pictures τ = {best:g} would be best ({100 * np.nanmax(judged.mious()):.1f} "
        "without dense CRF); a threshold chosen on the pictures that it is reported on flatters."
    )
    parts += list(found.pictures.notes)
    parts += [
        text for text in (left_out_note(judged), drawing_note(judged, found.pictures)) if text
    ]
    return "\n\n".join(parts) + "\n"


def _values(tables: list[IouTable], name: str) -> np.ndarray:
    return np.array([getattr(t.miou, name) if t.miou else np.nan for t in tables], np.float64)
