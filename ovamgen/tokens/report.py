"""The report of an optimisation: tables, loss curves and a picture a class, in one folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.classes.class_set import ClassSet
from ovamgen.masks.iou import FINE_TAUS
from ovamgen.storage.whole_files import write_whole
from ovamgen.tokens.figures import before_and_after, loss_curves
from ovamgen.tokens.iou import PUBLISHED_TAUS, IouCounts, curve_values, mean_iou
from ovamgen.tokens.learning import KINDS, ClassResult, ClassTask

_DIGITS = 4


def write_report(
    folder: Path,
    tasks: Sequence[ClassTask],
    results: Mapping[str, ClassResult],
    bank: TokenBank,
    classes: ClassSet,
) -> Path:
    """Writes the report: the same results give the same bytes, on the same matplotlib.

    ``tokens.json`` (everything, IoU at every threshold), ``tokens.csv`` (a row a class),
    ``losses.csv`` (a column a class), ``loss_curves.png`` and ``.pdf``, ``classes/CLASS.png``.

    Args:
        folder: is made where it is missing; files of these names are replaced.
        tasks: of all classes.
        results: by class, in the order in which they are shown.
        bank: that was made of them.
        classes: that they are of.

    Raises:
        ConfigError: the folder cannot be written.
    """
    by_name = {task.class_name: task for task in tasks}

    def write(name: str, data: bytes) -> None:
        write_whole(folder / name, data, make_folder=True, name=f"the report {folder}")

    text = json.dumps(report_json(by_name, results, bank), indent=2) + "\n"
    write("tokens.json", text.encode())
    write("tokens.csv", _table(by_name, results).encode())
    write("losses.csv", _losses(results).encode())
    curves = loss_curves(results, tasks[0].settings, classes.phrase_by_name)
    write("loss_curves.png", _drawn(curves, "png"))
    write("loss_curves.pdf", _drawn(curves, "pdf"))
    for name, result in results.items():
        picture = before_and_after(result, by_name[name].training[0], classes)
        write(f"classes/{name}.png", _drawn(picture, "png"))
    return folder


def report_json(
    tasks: Mapping[str, ClassTask], results: Mapping[str, ClassResult], bank: TokenBank
) -> dict[str, Any]:
    """The report as plain values.

    IoU is of maps divided by their maximum, without CRF: of the class word, of the pair before
    training and of the optimised pair; per class the pixels of all its pictures are summed.
    """
    described: dict[str, Any] = {
        "bank_sha256": bank.sha256,
        "provenance": {k: v for k, v in bank.provenance.items() if not k.startswith("class ")},
        "taus": list(FINE_TAUS),
        "classes": {},
        "mean": {},
    }
    for name, result in results.items():
        examples = tasks[name].training
        described["classes"][name] = {
            "samples": [example.sample.key for example in examples],
            "seeds": [example.sample.seed for example in examples],
            "loss_initial": _rounded(result.losses[0]),
            "loss_best": _rounded(result.losses.min()),
            "loss_last": _rounded(result.losses[-1]),
            "best_step": result.best_step,
            "training": _kinds_json(result.training),
        }
        if result.held_out:
            described["classes"][name] |= {
                "held_out_samples": len(tasks[name].held_out),
                "held_out": _kinds_json(result.held_out),
            }
    described["mean"]["training"] = _means([result.training for result in results.values()])
    held_out = [result.held_out for result in results.values() if result.held_out]
    if held_out:
        described["mean"]["held_out"] = _means(held_out)
    return described


def _kinds_json(kinds: Sequence[IouCounts]) -> dict[str, Any]:
    return {name: curve_values(counts.iou()) for name, counts in zip(KINDS, kinds, strict=True)}


def _means(results: Sequence[Sequence[IouCounts]]) -> dict[str, Any]:
    by_kind = zip(*results, strict=True)
    return {name: curve_values(mean_iou(kind)) for name, kind in zip(KINDS, by_kind, strict=True)}


def _table(tasks: Mapping[str, ClassTask], results: Mapping[str, ClassResult]) -> str:
    columns = ["class", "samples", "loss_initial", "loss_best", "best_step"]
    sets = ["training"] + (["held_out"] if any(r.held_out for r in results.values()) else [])
    measures = [*(f"iou_at_{tau:g}" for tau in PUBLISHED_TAUS), "best_tau", "best_iou"]
    columns += [f"{group}_{kind}_{m}" for group in sets for kind in KINDS for m in measures]
    rows = []
    for name, result in results.items():
        row: dict[str, Any] = {
            "class": name,
            "samples": len(tasks[name].training),
            "loss_initial": _rounded(result.losses[0]),
            "loss_best": _rounded(result.losses.min()),
            "best_step": result.best_step,
        }
        for group in sets:
            counts: tuple[IouCounts, ...] = getattr(result, group)
            for kind, values in (_kinds_json(counts) if counts else {}).items():
                row |= {f"{group}_{kind}_{m}": values[m] for m in measures}
        rows.append([row.get(column, "") for column in columns])
    return _csv([columns, *rows])


def _losses(results: Mapping[str, ClassResult]) -> str:
    """Losses with nine digits, which are enough to give every float32 back."""
    rows = zip(*(result.losses for result in results.values()), strict=True)
    numbered = [[step, *(f"{loss:.9g}" for loss in row)] for step, row in enumerate(rows)]
    return _csv([["step", *results], *numbered])


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _drawn(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    # neither the version nor the date, so that equal results give equal bytes
    nothing = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None}
    figure.savefig(buffer, format=kind, metadata=nothing)
    return buffer.getvalue()


def _rounded(value: Any) -> float:
    return round(float(value), _DIGITS)
