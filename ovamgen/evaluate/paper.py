"""What the OVAM paper and its supplementary report, to stand beside our figures, never among them.

All figures are IoU × 100 with Stable Diffusion 1.5 and of VOC's classes. Nothing here was measured
by ovamgen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

PAPER_DATA = ("VOC-sim", "COCO-cap")
"""The paper's sets of annotated pictures."""
S1_METHODS = ("daam-ovam", "datasetdm", "grounded", "ovam")
"""Methods of Table S1, by our names, in its order; S2 has the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """Masks of one method on one of the paper's data sets."""

    data: str
    """One of `PAPER_DATA`."""
    title: str
    """The paper's name of the method."""
    method: str
    """Our name of what was run."""
    tokens: str
    """``words`` or ``tokens``."""
    miou: float
    overall: float
    iou: tuple[float, ...]
    """IoU × 100 by class, in the order of VOC's ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplementaryRow:
    """One row of Table S1 or S2."""

    title: str
    method: str
    iou: tuple[float, ...]
    """IoU × 100 of the classes of `PaperResults.selected`."""
    miou: float
    """Mean as printed: over all classes, and not that of ``iou``."""
    tokens: str = "words"
    split: str = "all"
    """Table S2: whether the prompt names the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperResults:
    """All figures of ``data/paper_results.yaml``."""

    source: str
    """Where they are from."""
    rows: tuple[PaperRow, ...]
    selected: tuple[str, ...]
    """Names of the eleven classes that the supplementary's tables show."""
    table_s1: tuple[SupplementaryRow, ...]
    """Segmentors trained on each method's pictures."""
    table_s2: tuple[SupplementaryRow, ...]
    """Masks of COCO-cap by words, parted by whether the prompt names the class."""

    def miou(self, data: str, method: str, tokens: str) -> float | None:
        """The mIoU of a method on one of `PAPER_DATA`, or None where there is none."""
        row = self.row(data, method, tokens)
        return None if row is None else row.miou

    def row(self, data: str, method: str, tokens: str) -> PaperRow | None:
        """The row of a method on one of `PAPER_DATA`, or None where there is none."""
        wanted = (data, method, tokens)
        return next((r for r in self.rows if (r.data, r.method, r.tokens) == wanted), None)

    def s1(self, method: str, tokens: str) -> SupplementaryRow | None:
        """The row of Table S1, or None where there is none."""
        wanted = (method, tokens)
        return next((r for r in self.table_s1 if (r.method, r.tokens) == wanted), None)

    def s2(self, method: str, split: str) -> SupplementaryRow | None:
        """The row of Table S2, or None where there is none."""
        wanted = (method, split)
        return next((r for r in self.table_s2 if (r.method, r.split) == wanted), None)


@cache
def paper_results() -> PaperResults:
    """The paper's figures, read once."""
    text = (resources.files("ovamgen") / "data" / "paper_results.yaml").read_text("utf-8")
    data = yaml.safe_load(text)

    def supplementary(rows: list[dict[str, Any]]) -> tuple[SupplementaryRow, ...]:
        return tuple(SupplementaryRow(**{**row, "iou": tuple(row["iou"])}) for row in rows)

    return PaperResults(
        source=data["source"],
        rows=tuple(PaperRow(**{**row, "iou": tuple(row["iou"])}) for row in data["rows"]),
        selected=tuple(data["selected_classes"]),
        table_s1=supplementary(data["table_s1"]),
        table_s2=supplementary(data["table_s2"]),
    )
