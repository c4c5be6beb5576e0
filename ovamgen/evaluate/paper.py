"""The paper's own figures, as data: to stand beside ours, never to be mixed with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One row of the paper's results, IoU × 100, with Stable Diffusion 1.5."""

    data: str
    """``VOC-sim`` or ``COCO-cap``."""
    title: str
    """The paper's name of the method."""
    method: str
    """Our name of what was run."""
    tokens: str
    """``words`` or ``tokens``."""
    miou: float
    overall: float
    iou: tuple[float, ...]
    """By class, in the order of VOC's ids."""
    not_included: float | None = None
    """mIoU where the prompt does not name the class (Table S2)."""
    included: float | None = None


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """All rows of ``data/paper_results.yaml``."""
    text = (resources.files("ovamgen") / "data" / "paper_results.yaml").read_text("utf-8")
    return tuple(
        PaperRow(**{**row, "iou": tuple(row["iou"])}) for row in yaml.safe_load(text)["rows"]
    )


def paper_source() -> str:
    """Where the rows are from."""
    text = (resources.files("ovamgen") / "data" / "paper_results.yaml").read_text("utf-8")
    source: str = yaml.safe_load(text)["source"]
    return source


def paper_miou(data: str, method: str, tokens: str) -> float | None:
    """The paper's mIoU of a method on one of its data sets, or None where it has none."""
    for row in paper_rows():
        if (row.data, row.method, row.tokens) == (data, method, tokens):
            return row.miou
    return None
