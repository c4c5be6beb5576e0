"""Images per second of few steps beside those of many, by turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from ovamgen.bench.machine import Machine
from ovamgen.bench.timing import Spread, check_rounds, time_by_turns
from ovamgen.config import RunConfig
from ovamgen.engine.engine import Engine
from ovamgen.records import SampleSpec, Target

MANY, FEW, PROBED = "30 steps", "4 steps", "4 steps and a probe"
PROBE = (301, 101)
"""Timesteps of the third way's maps, whose own calls see mostly noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayCost:
    """One way to draw a batch and to make its maps."""

    way: str
    images_per_second: float
    """Median, decoded and on the CPU, heatmaps included."""
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
    few = {"steps": 4, "scheduler": "LCM", "guidance": 0.0}
    settings: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
        MANY: ({"steps": 30}, ()),
        FEW: (few, ()),
        PROBED: (few, PROBE),
    }
    specs = _specs(config, batch_size)
    engines = {}
    for way, (synthesis, probe) in settings.items():
        say(f"loading {config.model.id} for {way}")
        # once more from the beginning: without guidance another half is read
        data = config.model_dump(exclude={"attribution", "synthesis"})
        size = {"height": config.synthesis.height, "width": config.synthesis.width}
        attribution = {"tokens": config.attribution.tokens, "probe": probe}
        engines[way] = Engine.load(
            RunConfig.model_validate(
                data | {"synthesis": synthesis | size, "attribution": attribution}
            )
        )

    def draw(engine: Engine) -> Callable[[], object]:
        return lambda: engine.synthesise(specs)

    turns = time_by_turns({way: draw(engine) for way, engine in engines.items()}, rounds).wall
    ways = [
        WayCost(
            way=way,
            images_per_second=batch_size / Spread.of(seconds).median,
            faster=Spread.of_ratios(turns[MANY], seconds),
        )
        for way, seconds in turns.items()
    ]
    return FewStepsBench(
        machine=Machine.here(),
        model=config.model.id,
        device=config.model.device,
        batch_size=batch_size,
        rounds=rounds,
        ways=tuple(ways),
    )


def _specs(config: RunConfig, count: int) -> Sequence[SampleSpec]:
    entry = config.classes.classes[0]
    target = Target(class_id=entry.id, class_name=entry.name, phrase=entry.phrase)
    return [
        SampleSpec(
            key=f"{number:011d}",
            prompt=f"a photograph of {entry.with_article}",
            caption="",
            targets=(target,),
            seed=number,
            caption_id=number,
            image_id=-1,
            word_included=True,
            word_included_published=True,
        )
        for number in range(count)
    ]
