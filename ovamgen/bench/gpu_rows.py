"""What a sweep over combinations and batch sizes found, for programs and for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ovamgen.bench.arithmetic import ImageCost
from ovamgen.bench.machine import Machine
from ovamgen.bench.timing import Spread

SHARE_TARGET = 0.45
"""The share of the rate of matrix products that a GPU should reach."""
OVERHEAD_TARGETS = {"cuda": 1.03, "cpu": 1.10}
"""Time with recording over time without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """One combination at one batch size, measured."""

    off_seconds: Spread
    """A batch without recording."""
    on_seconds: Spread
    """A batch with recording, its maps included."""
    ratio: Spread
    """Quartiles of the rounds' ratios, on / off."""
    cpu_ratio: Spread
    """The same of the process's processor time; on a GPU it says nothing."""
    warmup_seconds: float
    """The first batch of both kinds: compiling and capturing are in it."""
    matmul_flops_per_second: float
    """Rate of matrix products in the reference dtype, measured right before."""
    images_per_second: float
    """With recording, as samples are made."""
    share: float
    """Operations of the UNet calls over what matrix products could have done meanwhile."""
    peak_bytes: tuple[int, int] | None
    """Beside the weights, without and with recording; None on a CPU."""
    images_equal: bool
    """Recording changed no bit of the images."""
    pixel_difference: float
    """Mean absolute difference of the images to the first row's of the batch size, levels of
    255."""
    map_difference: float
    """Largest difference of the raw maps to the first row's, over those maps' largest value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One combination at one batch size: timings, or the reason why there are none."""

    combination: str
    batch_size: int
    timings: Timings | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuBench:
    """A sweep as far as it has come."""

    machine: Machine
    model: str
    device: str
    height: int
    width: int
    steps: int
    rounds: int
    reference_dtype: str
    """Dtype of the matrix products that shares refer to: bf16 on a GPU, fp32 on a CPU."""
    cost: ImageCost
    rows: tuple[GpuRow, ...]
    planned_rows: int

    @property
    def best(self) -> GpuRow | None:
        """The row with the most images a second, recording on."""
        measured = [row for row in self.rows if row.timings is not None]
        return max(measured, key=_rate, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for programs, with the targets and whether the best row meets them."""
        best, overhead = self.best, OVERHEAD_TARGETS[self.device]
        share = SHARE_TARGET if self.device == "cuda" else None
        found: dict[str, Any] = {"best": None}
        if best is not None and best.timings is not None:
            found["best"] = {
                "combination": best.combination,
                "batch_size": best.batch_size,
                "images_per_second": best.timings.images_per_second,
                "share": best.timings.share,
                "ratio": best.timings.ratio.median,
                "share_met": None if share is None else best.timings.share >= share,
                "ratio_met": best.timings.ratio.median <= overhead,
            }
        targets = {"share": share, "ratio": overhead}
        return asdict(self) | {"targets": targets} | found

    def table(self) -> Group:
        """A table for people, the best row marked, and why rows failed."""
        best, cost = self.best, self.cost
        table = Table(
            title=f"{self.model} on {self.device}: {self.height}x{self.width}, {self.steps} steps "
            f"({cost.unet_calls} UNet calls, {cost.unet_flops / 1e12:.3g} TFLOP an image), "
            f"{self.rounds} rounds, {len(self.rows)} of {self.planned_rows} rows",
            caption=f"share of {self.reference_dtype} matrix products; pixels, maps: difference to "
            f"the batch size's first row, * recording changed pixels. {self.machine.line()}",
        )
        table.add_column("batch", justify="right")
        table.add_column("combination", overflow="fold")
        for name in ("images/s", "share", "on / off", "GB", "warm-up s", "pixels", "maps"):
            table.add_column(name, justify="right")
        failed = []
        for row in self.rows:
            name = f"{row.combination} (best)" if row is best else row.combination
            table.add_row(str(row.batch_size), name, *_cells(row))
            if row.timings is None:
                failed.append(f"batch {row.batch_size}, {row.combination}: {row.reason}")
        return Group(table, *(Text(line) for line in failed))


def _rate(row: GpuRow) -> float:
    return row.timings.images_per_second if row.timings is not None else 0.0


def _cells(row: GpuRow) -> list[str]:
    timings = row.timings
    if timings is None:
        return ["failed"]
    return [
        f"{timings.images_per_second:.3g}",
        f"{timings.share:.1%}",
        f"{timings.ratio.median:.3f}",
        f"{timings.peak_bytes[1] / 1e9:.2f}" if timings.peak_bytes else "",
        f"{timings.warmup_seconds:.1f}",
        f"{timings.pixel_difference:.2f}" + ("" if timings.images_equal else "*"),
        f"{timings.map_difference:.0e}",
    ]
