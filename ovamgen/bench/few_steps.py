"""Images per second of few steps beside those of many, by turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from ovamgen.attribution.method import build_method
from ovamgen.attribution.targets import untrained_targets
from ovamgen.bench.attention import PROMPT
from ovamgen.bench.machine import Machine
from ovamgen.bench.timing import Spread, check_rounds, time_by_turns
from ovamgen.classes.loading import default_classes
from ovamgen.config import Branch, RunConfig
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.opened_model import PipelineAttention, use_repeatable_arithmetic

MANY, FEW, PROBED = "30 steps", "4 steps", "4 steps and a probe"
PROBE = (301, 101)
"""Timesteps of the third way's maps, whose own calls see mostly noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayCost:
    """One way to draw a batch and to make its maps."""

    way: str
    images_per_second: float
    """Median, decoded and on the CPU, maps of 20 pairs included."""
    faster: Spread
    """Seconds of the first way by those of this one, round by round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FewStepsBench:
    """30 steps with guidance, 4 without, and 4 with maps of a probe of the finished image."""

    machine: Machine
    model: str
    device: str
    batch_size: int
    rounds: int
    ways: tuple[WayCost, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        return asdict(self)

    def table(self) -> Table:
        """A table for people."""
        table = Table(
            title=f"{self.model} on {self.device}: batches of {self.batch_size}, "
            f"{self.rounds} rounds",
            caption=self.machine.line(),
        )
        for name in ("", "images/s", "times as fast", "quartiles"):
            table.add_column(name, justify="right" if name else "left")
        for way in self.ways:
            rate = f"{way.images_per_second:.2f}"
            table.add_row(way.way, rate, *way.faster.cells(digits=2))
        return table


def bench_few_steps(
    config: RunConfig,
    *,
    batch_size: int,
    rounds: int,
    say: Callable[[str], object] = lambda text: None,
) -> FewStepsBench:
    """What fewer steps save, whatever the weights: 30 of PNDM, 4 of LCM without guidance.

    Args:
        config: names the model, its device and its size.
        batch_size: images of a batch.
        rounds: how often each way is timed.
        say: told what goes on.

    Raises:
        ConfigError: too little to measure, or no such model or device.
    """
    check_rounds(rounds, batch_size)
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    say(f"loading {config.model.id}")
    loaded = load_pipeline(config.model)
    attention = PipelineAttention(loaded)
    method = build_method(
        "ovam", attention, untrained_targets(default_classes().phrase_by_name, attention.encode)
    )
    prompts = [PROMPT] * batch_size

    def way(probe: Sequence[int] = (), **changes: Any) -> Callable[[], object]:
        settings = config.synthesis.model_copy(update={"safety": "off", **changes})
        synthesiser = Synthesiser(loaded, settings)
        half: Branch = "unconditional" if synthesiser.guided else "conditional"

        def draw() -> None:
            sink = method.open(prompts)
            synthesiser.draw(prompts, range(batch_size), listeners=[(sink, half)], probe=probe)
            sink.class_maps().cpu()

        return draw

    few: dict[str, Any] = {"steps": 4, "scheduler": "LCM", "guidance": 0.0}
    say(f"timing {rounds} rounds of {batch_size} images, after one that does not count")
    turns = time_by_turns(
        {MANY: way(steps=30), FEW: way(**few), PROBED: way(PROBE, **few)}, rounds
    ).wall
    ways = [
        WayCost(
            way=name,
            images_per_second=batch_size / Spread.of(seconds).median,
            faster=Spread.of_ratios(turns[MANY], seconds),
        )
        for name, seconds in turns.items()
    ]
    return FewStepsBench(
        machine=Machine.here(),
        model=config.model.id,
        device=config.model.device,
        batch_size=batch_size,
        rounds=rounds,
        ways=tuple(ways),
    )
