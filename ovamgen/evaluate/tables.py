"""Scores as JSON, CSV and Markdown in the shape of the paper's Table S2.

IoU is a fraction in JSON and CSV, and times 100 with one decimal in Markdown (methods 7.3).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ovamgen.classes.class_entry import ClassEntry
from ovamgen.classes.class_set import ClassSet
from ovamgen.console.wording import listed
from ovamgen.evaluate.judging import Judged
from ovamgen.evaluate.scoring import Counts, Interval, IouTable, iou_table
from ovamgen.storage.whole_files import write_whole

SPLITS = ("not included", "included", "all")
"""Whether the prompt names the class; the rows of Table S2."""
MOST_COLUMNS = 24
"""Classes that a table has columns for; those of larger sets have rows in a table of their own."""


def split_tables(counts: Counts, *, draws: int, seed: int) -> dict[str, IouTable]:
    """The table of each of `SPLITS`."""
    chosen = {
        "not included": ~counts.included,
        "included": counts.included,
        "all": np.ones(len(counts.keys), bool),
    }
    return {name: iou_table(counts.select(chosen[name]), draws=draws, seed=seed) for name in SPLITS}


def percent(found: Interval | None, *, interval: bool = False) -> str:
    """``58.2`` or ``58.2 (55.1–61.0)``; a dash where there is nothing."""
    if found is None:
        return "–"
    text = f"{100 * found.value:.1f}"
    return f"{text} ({100 * found.low:.1f}–{100 * found.high:.1f})" if interval else text


def signed(found: Interval | None) -> str:
    """``+2.1 (-0.4 to +4.5)``, a difference with its interval; a dash where there is nothing."""
    if found is None:
        return "–"
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and figures to the right."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join([':---'] + ['---:'] * (len(head) - 1))}|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def class_table(tables: Mapping[str, IouTable]) -> str:
    """A row for each table: IoU of all classes, then mIoU and overall with their intervals.

    Of more than `MOST_COLUMNS` classes, `rows_by_class` follows.
    """
    classes = next(iter(tables.values())).classes
    rows = [[name, *score_cells(table)] for name, table in tables.items()]
    text = markdown_table(["word in the prompt", *score_head(classes)], rows)
    by_class = rows_by_class(tables)
    return f"{text}\n\n{by_class}" if by_class else text


def rows_by_class(tables: Mapping[str, IouTable]) -> str:
    """A row for each class that occurs, a column for each table; "" where classes have columns."""
    classes = next(iter(tables.values())).classes
    if len(classes) <= MOST_COLUMNS:
        return ""
    rows = [
        [entry.phrase, *(percent(table.per_class.get(entry.name)) for table in tables.values())]
        for entry in classes.classes
        if any(entry.name in table.per_class for table in tables.values())
    ]
    return markdown_table(["class", *tables], rows)


def _columns(classes: ClassSet) -> tuple[ClassEntry, ...]:
    return classes.classes if len(classes) <= MOST_COLUMNS else ()


def score_head(classes: ClassSet) -> list[str]:
    """The heads of `score_cells`."""
    return [*(entry.phrase for entry in _columns(classes)), "mIoU", "overall", "pictures"]


def score_cells(table: IouTable) -> list[str]:
    """IoU of all classes, then mIoU and overall with their intervals: below `score_head`."""
    return [
        *(percent(table.per_class.get(entry.name)) for entry in _columns(table.classes)),
        percent(table.miou, interval=True),
        percent(table.overall, interval=True),
        str(table.pictures),
    ]


def absent_note(table: IouTable) -> str:
    """The sentence that says over which classes the mean is."""
    if not table.absent:
        count = len(table.classes)
        return f"The mIoU is the mean over all {count} classes, without background."
    absent = listed(table.absent, MOST_COLUMNS)
    return (
        f"The mIoU is the mean over the {len(table.per_class)} classes that occur, without "
        f"background; no pixel of {absent} is in any truth or mask, and they are left out of it."
    )


def left_out_note(judged: Judged) -> str:
    """The sentence that says what has no score, or "" where everything has one."""
    if not judged.left_out:
        return ""
    first = judged.left_out[0]
    return (
        f"{len(judged.left_out)} of {len(judged.left_out) + len(judged.plain.keys)} picture and "
        f"class pairs have no map by {judged.setup.name} and are left out, such as "
        f"{first.class_name} in {first.key}: {first.reason}."
    )


def per_image_csv(judged: Judged) -> str:
    """A line for each picture and class, what was left out included; empty where undefined."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head = ["key", "class_name", "word_included", "iou", "intersection", "union", "iou_plain"]
    writer.writerow([*head, "difference", "left_out"])
    final, plain = judged.final, judged.plain
    final_ious, plain_ious = final.ious(), plain.ious()
    lines = []
    for row, key in enumerate(final.keys):
        name = final.classes.by_id(int(final.class_ids[row])).name
        lines.append(
            [
                key,
                name,
                str(int(final.included[row])),
                _number(final_ious[row]),
                str(final.intersections[row]),
                str(final.unions[row]),
                _number(plain_ious[row]),
                _number(judged.differences[key]),
                "",
            ]
        )
    for left in judged.left_out:
        difference = _number(judged.differences[left.key])
        lines.append([left.key, left.class_name, *[""] * 5, difference, left.reason])
    writer.writerows(sorted(lines))
    return buffer.getvalue()


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    write_whole(path, text.encode(), make_folder=True)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """JSON for programs, its keys in the order given.

    Raises:
        ConfigError: it cannot be written.
    """
    write_text(path, json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"
