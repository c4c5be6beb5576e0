"""What a plan takes and leaves out, counted by class and by reason, as JSON and as a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovamgen.console.wording import counted, readable_bytes
from ovamgen.plan.planning import Estimate, Plan, estimate
from ovamgen.plan.prompts import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of captions: those that name a class, or all of them."""

    available: int
    """Taken and left out together."""
    taken: int
    rejected: dict[Reason, int]
    """By reason, in the order of `Reason`; reasons that do not occur are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """A plan in numbers. A caption with several classes counts for each, but once in the total."""

    classes: dict[str, Tally]
    """By name, all of the set in the order of their ids."""
    unclassed: Tally
    """Captions left out before a class was known."""
    total: Tally
    estimate: Estimate

    @classmethod
    def of(cls, plan: Plan, *, height: int = 512, width: int = 512) -> PlanSummary:
        """The summary of a plan.

        Args:
            plan: any, one without samples too.
            height: of the images, pixels, for the estimate.
            width: of the images, pixels.
        """
        captions, classes = _counts(plan)

        def tally_of(counts: Counter[str]) -> Tally:
            return Tally(
                available=counts.total(),
                taken=counts[""],
                rejected={reason: counts[reason] for reason in Reason if counts[reason]},
            )

        return cls(
            classes={entry.name: tally_of(classes[entry.name]) for entry in plan.classes.classes},
            unclassed=tally_of(classes[""]),
            total=tally_of(captions),
            estimate=estimate(plan, height, width),
        )

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain values, the same keys for every plan."""
        return {
            "classes": {name: _plain(tally) for name, tally in self.classes.items()},
            "without_class": _plain(self.unclassed),
            "total": _plain(self.total),
            "estimate": {
                "images": self.estimate.images,
                "shards": self.estimate.shards,
                "bytes": self.estimate.bytes,
            },
        }

    def render(self, console: Console) -> None:
        """Prints the table and the estimate; where it is too wide, the last columns follow below.

        Readable without colour; up to five reasons stand side by side in 100 columns.
        """
        columns = [_Column.of("available", ""), _Column.of("taken", "bold green")]
        columns += [_Column.of(reason, "yellow") for reason in self.total.rejected]
        room = console.width - len(max(self.classes, key=len)) - 2
        while columns:
            widths = accumulate(column.width for column in columns)
            fitting = max(1, sum(width <= room for width in widths))
            console.print(self._table(columns[:fitting]))
            columns = columns[fitting:]
        console.print(self._footnote())

    def _table(self, columns: list[_Column]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("class", footer="captions", no_wrap=True)
        for column in columns:
            table.add_column(
                column.heading,
                footer=column.cell(self.total),
                justify="right",
                style=column.style,
                min_width=column.width - 2,
            )
        for name, tally in self.classes.items():
            cells = [column.cell(tally) for column in columns]
            table.add_row(name, *cells, style="" if tally.taken else "dim")
        if self.unclassed.available:
            cells = [column.cell(self.unclassed) for column in columns]
            table.add_row("no class", *cells, style="italic")
        return table

    def _footnote(self) -> Text:
        size = self.estimate
        return Text(
            "A caption that names several classes counts for each, and once in the last row.\n"
            f"To make: {counted(size.images, 'image')} in {counted(size.shards, 'shard')}, "
            f"about {readable_bytes(size.bytes)}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A column of numbers: available, taken, or left out for a reason."""

    heading: str
    style: str
    width: int
    """Characters, with the gap before it."""

    @classmethod
    def of(cls, heading: str, style: str) -> _Column:
        """The column, wide enough for its longest word and for a million."""
        longest = max(map(len, [*heading.split(), "1,000,000"]))
        return cls(heading=heading, style=style, width=longest + 2)

    def cell(self, tally: Tally) -> str:
        """The column's number out of a tally."""
        if self.heading in ("available", "taken"):
            return _number(getattr(tally, self.heading))
        return _number(tally.rejected.get(Reason(self.heading), 0))


def _counts(plan: Plan) -> tuple[Counter[str], defaultdict[str, Counter[str]]]:
    """Captions by reason, "" where taken; and the same for each class, "" where there is none."""
    captions: Counter[str] = Counter()
    classes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for batch in plan.columns("reason", "class_names"):
        reasons, names = batch.column("reason"), batch.column("class_names")
        unnamed = reasons.filter(pc.equal(pc.list_value_length(names), 0))
        captions.update(_counted(reasons))
        classes[""].update(_counted(unnamed))
        name_of, reason_of = names.flatten(), reasons.take(pc.list_parent_indices(names))
        for name in pc.unique(name_of).to_pylist():
            classes[name].update(_counted(reason_of.filter(pc.equal(name_of, name))))
    return captions, classes


def _counted(values: pa.Array) -> dict[str, int]:
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(values).to_pylist()}


def _plain(tally: Tally) -> dict[str, Any]:
    return {
        "available": tally.available,
        "taken": tally.taken,
        "rejected": {reason.value: number for reason, number in tally.rejected.items()},
    }


def _number(value: int) -> str:
    """Thousands set apart; a stop for none, so that the eye finds the numbers."""
    return f"{value:,}" if value else "."
