"""What the stages of a sample were found to cost, for programs and for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table

from ovamgen.bench.crf_rate import CrfRate
from ovamgen.bench.machine import Machine
from ovamgen.bench.paired import Pair
from ovamgen.bench.timing import Spread

STAGES = (
    "synthesis",
    "maps",
    "masks",
    "dense CRF",
    "jpg",
    "mask png",
    "json",
    "preview png",
    "heatmaps npz",
    "digests",
    "tar",
    "metadata",
    "publish",
)
"""In the order in which a sample goes through them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One stage."""

    stage: str
    """One of `STAGES`."""
    counted: bool
    """Whether the run has it: heatmaps and dense CRF can be switched off."""
    seconds_per_image: Spread
    """Quartiles of the rounds' means."""
    cpu_seconds_per_image: Spread
    """Processor time likewise: what else the machine does hardly counts, nor does waiting."""
    bytes_per_image: float
    """What the stage hands on, 0 where that is measured with another: pixels and maps in memory,
    files afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesBench:
    """All stages of a sample in one process, and dense CRF by image size."""

    machine: Machine
    model: str
    device: str
    height: int
    width: int
    steps: int
    batch_size: int
    rounds: int
    store: str
    """Kind of store that was written to."""
    stages: tuple[StageCost, ...]
    crf: tuple[CrfRate, ...]
    side_px: int
    """Pixels of the square images that ``pairs`` were measured on."""
    pairs: tuple[Pair, ...]

    @property
    def seconds_per_image(self) -> float:
        """Sum of the medians of the stages that the run has."""
        return sum(cost.seconds_per_image.median for cost in self.stages if cost.counted)

    @property
    def cpu_seconds_per_image(self) -> float:
        """The same of the processor time."""
        return sum(cost.cpu_seconds_per_image.median for cost in self.stages if cost.counted)

    @property
    def images_per_second(self) -> float:
        """Rate of one process that does everything itself."""
        return 1 / self.seconds_per_image

    def to_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        return asdict(self) | {
            "seconds_per_image": self.seconds_per_image,
            "cpu_seconds_per_image": self.cpu_seconds_per_image,
            "images_per_second": self.images_per_second,
        }

    def table(self) -> Group:
        """Tables for people."""
        table = Table(
            title=f"{self.model} on {self.device}: {self.images_per_second:.3g} images/s in one "
            f"process; {self.height}x{self.width}, {self.steps} steps, batches of "
            f"{self.batch_size}, {self.rounds} rounds, written to a {self.store}",
            caption=f"processor time: {self.cpu_seconds_per_image:.3g} s an image, shares are of "
            f"it. {self.machine.line()}",
        )
        for name in ("stage", "ms an image", "quartiles", "CPU ms", "share", "kB an image"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for cost in self.stages:
            wall, cpu = cost.seconds_per_image, cost.cpu_seconds_per_image.median
            share = f"{cpu / self.cpu_seconds_per_image:.1%}" if cost.counted else "not used"
            size = f"{cost.bytes_per_image / 1e3:.1f}" if cost.bytes_per_image else ""
            times = (*wall.cells(factor=1e3, digits=1), f"{cpu * 1e3:.1f}")
            table.add_row(cost.stage, *times, share, size)
        pairs = Table(title=f"processor time beside the plain way, {self.side_px}x{self.side_px}")
        for name in ("step", "beside", "ratio", "quartiles"):
            pairs.add_column(name, justify="left" if name in ("step", "beside") else "right")
        for pair in self.pairs:
            pairs.add_row(pair.step, pair.beside, *pair.ratio.cells())
        if not self.crf:
            return Group(table, pairs)
        rates = Table(title="dense CRF, one target, one core")
        for name in ("pixels", "CPU ms an image", "quartiles", "images/s"):
            rates.add_column(name, justify="right")
        for rate in self.crf:
            cells = rate.seconds.cells(factor=1e3, digits=1)
            rates.add_row(f"{rate.side_px}x{rate.side_px}", *cells, f"{rate.images_per_second:.3g}")
        return Group(table, rates, pairs)
