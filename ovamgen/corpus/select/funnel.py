"""What a selection started from, what it left out and why, what it kept: as JSON and as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from ovamgen.console.wording import counted
from ovamgen.corpus.select.filters import REASONS, SelectionSettings, Verdicts
from ovamgen.corpus.select.table import Candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """Counts of samples; of classes, a sample counts for each of its targets."""

    planned: int
    """Samples of the finished shards, those that failed included."""
    failed: dict[str, int]
    """Never made, by stage."""
    dropped: dict[str, int]
    """Left out by this selection, by reason; those that were looked for, also with 0."""
    kept: int
    by_class: dict[str, dict[str, int]]
    """By the class's name: ``planned``, ``failed``, every reason that occurs, ``kept``."""
    notes: tuple[str, ...]
    """What a reader should know: what was not looked at, classes that are too small."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"notes": list(self.notes)}

    def table(self) -> Table:
        """By reason, with what is left after each."""
        table = Table(title="selection", title_justify="left")
        for name in ("step", "left out", "left"):
            table.add_column(name, justify="left" if name == "step" else "right")
        left = self.planned
        table.add_row("planned in the finished shards", "", f"{left}")
        for stage, count in self.failed.items():
            left -= count
            table.add_row(f"failed: {stage}", f"{count}", f"{left}")
        for reason, count in self.dropped.items():
            left -= count
            table.add_row(REASONS[reason], f"{count}", f"{left}")
        table.add_section()
        table.add_row("kept", "", f"{self.kept}")
        return table

    def class_table(self) -> Table:
        """By class, one column for each reason that occurs."""
        columns = ["planned", *(["failed"] if self.failed else [])]
        columns += [reason for reason, count in self.dropped.items() if count]
        table = Table(title="by class")
        table.title_justify = "left"
        table.add_column("class")
        for name in [*columns, "kept"]:
            table.add_column(name.replace("_", " "), justify="right")
        for name, counts in self.by_class.items():
            table.add_row(name, *(f"{counts.get(column, 0)}" for column in [*columns, "kept"]))
        return table


def make_funnel(
    candidates: Candidates, verdicts: Verdicts, settings: SelectionSettings, *, clip: bool
) -> Funnel:
    """The funnel of a selection.

    Args:
        candidates: what was judged.
        verdicts: on each of them.
        settings: what was asked.
        clip: whether there were CLIP scores.
    """
    counts = Counter(verdicts.reasons)
    by_class: dict[int, Counter[str]] = {}
    names = [verdicts.reasons[index] or "kept" for index in candidates.sample.tolist()]
    for class_id, name in zip(candidates.class_ids.tolist(), names, strict=True):
        by_class.setdefault(class_id, Counter()).update(("planned", name))
    for class_id, count in candidates.failed_by_class.items():
        by_class.setdefault(class_id, Counter()).update({"planned": count, "failed": count})
    return Funnel(
        planned=len(candidates.keys) + sum(candidates.failed.values()),
        failed=candidates.failed,
        dropped={reason: counts[reason] for reason in verdicts.looked_for},
        kept=counts[""],
        by_class={
            candidates.classes.by_id(class_id).name: dict(by_class[class_id])
            for class_id in sorted(by_class)
        },
        notes=tuple(_notes(candidates, verdicts, settings, clip)),
    )


def _notes(
    candidates: Candidates, verdicts: Verdicts, settings: SelectionSettings, clip: bool
) -> list[str]:
    notes = []
    if not clip:
        notes.append("CLIP: not scored, no --clip MODEL_FOLDER was given; nothing left out for it")
    if settings.drop_uniform and not settings.read_pictures:
        notes.append(
            "uniform images: black, white and greys, by the recorded sha256 of the pixels; "
            "--read-pictures finds other colours"
        )
    if settings.area_quantiles is not None:
        small = [
            candidates.classes.by_id(quantiles.class_id).name
            for quantiles in verdicts.quantiles
            if quantiles.samples < 3
        ]
        if small:
            notes.append(
                f"{len(small)} classes have fewer than 3 samples, of which none lies strictly "
                f"between two quantiles: {', '.join(small)}; --area-quantiles none keeps them"
            )
    without = len(candidates.keys) - len(np.unique(candidates.sample))
    if without:
        notes.append(
            f"{counted(without, 'sample')} show no class: only what is asked of pictures leaves "
            "them out"
        )
    if not np.count_nonzero(verdicts.kept):
        notes.append("nothing is kept")
    return notes
