"""What recording attention costs: time beside plain diffusers, and memory by number of steps."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.table import Table

from ovamgen.attribution.interface import HeatmapMethod, HeatmapSink
from ovamgen.attribution.method import build_method
from ovamgen.attribution.targets import phrase_targets, untrained_targets
from ovamgen.bench.arithmetic import sd15_call_cost
from ovamgen.bench.machine import Machine
from ovamgen.bench.memory import LiveTensorBytes, ScratchMeter
from ovamgen.bench.timing import Spread, Turns, check_rounds, time_by_turns
from ovamgen.classes.loading import default_classes
from ovamgen.config import RunConfig, SynthesisConfig
from ovamgen.diffusion.pipeline import LoadedPipeline, load_pipeline
from ovamgen.diffusion.schedulers import scheduler_class
from ovamgen.diffusion.synthesis import Synthesiser, negative_prompts
from ovamgen.engine.opened_model import PipelineAttention, use_repeatable_arithmetic

PROMPT = "a photograph of a cat"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingCost:
    """What recording the maps of so many classes costs."""

    tokens: str
    """``pairs`` or ``words``."""
    classes: int
    ratio: Spread
    """on / off, wall time."""
    cpu_ratio: Spread
    """on / off of the process's processor time."""
    sd15_call_bytes: int
    """Traffic of the recording in one UNet call for one image, counted for Stable Diffusion 1.5 at
    512x512 in float16: what its operations read and write."""
    sd15_map_bytes: int
    """Running sums and scratch of one image, counted likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionBench:
    """Plain diffusers, our drawing without and with recording, in one process, by turns."""

    machine: Machine
    model: str
    device: str
    height: int
    width: int
    batch_size: int
    steps: int
    rounds: int
    plain_seconds: float
    """Median time of one batch by diffusers' own pipeline, none of our code in it."""
    off_seconds: float
    """Median time of one batch without recording: own noise, decoded image by image, checked."""
    on_seconds: float
    """Median time of one batch with recording, its heatmaps included."""
    ratio: float
    """Median of the rounds' ratios, on / off."""
    ratio_low: float
    """First quartile of the ratios."""
    ratio_high: float
    """Third quartile."""
    ratio_to_plain: Spread
    """on / plain: what the whole costs beside diffusers alone."""
    cpu_ratio: Spread
    """on / off of the process's processor time; on a GPU it says nothing."""
    cpu_ratio_to_plain: Spread
    """on / plain, likewise."""
    memory_steps: tuple[int, int]
    peak_bytes: tuple[int, int]
    """Largest sum of live tensors made while drawing with recording, at each of `memory_steps`."""
    peak_bytes_off: int
    """The same without recording, at the first of `memory_steps`."""
    sink_bytes: tuple[int, int]
    """What the running sums hold after so many steps."""
    map_bytes_per_image: int
    """Measured: the running sums and the most that an update makes beside them, of one image."""
    sd15_map_bytes_per_image: int
    """The same, counted for Stable Diffusion 1.5 at 512x512 without weights."""
    recordings: tuple[RecordingCost, ...]
    """Costs of pairs and of words, for each number of classes; ``on`` is the one of 20 pairs."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        return asdict(self)

    def table(self) -> Table:
        """A table for people."""
        table = Table(
            title=f"{self.model} on {self.device}: {self.batch_size} images of "
            f"{self.height}x{self.width}, {self.steps} steps, {self.rounds} rounds",
            caption=self.machine.line(),
        )
        for name in ("", "median", "quartiles"):
            table.add_column(name, justify="right" if name else "left")
        table.add_row("seconds a batch, plain diffusers", f"{self.plain_seconds:.3f}")
        table.add_row("seconds a batch, recording off", f"{self.off_seconds:.3f}")
        table.add_row("seconds a batch, recording on", f"{self.on_seconds:.3f}")
        ratio = Spread(median=self.ratio, low=self.ratio_low, high=self.ratio_high)
        table.add_row("on / off", *ratio.cells())
        table.add_row("on / plain diffusers", *self.ratio_to_plain.cells(), end_section=True)
        if self.device == "cpu":
            table.add_row("processor time, on / off", *self.cpu_ratio.cells())
            plain = self.cpu_ratio_to_plain.cells()
            table.add_row("processor time, on / plain diffusers", *plain, end_section=True)
        steps = self.memory_steps
        table.add_row(f"peak MB, off, {steps[0]} steps", f"{self.peak_bytes_off / 1e6:.1f}")
        for count, peak, sums in zip(steps, self.peak_bytes, self.sink_bytes, strict=True):
            table.add_row(f"peak MB, on, {count} steps", f"{peak / 1e6:.1f}")
            table.add_row(f"MB of running sums, {count} steps", f"{sums / 1e6:.2f}")
        table.add_row("MB of maps an image", f"{self.map_bytes_per_image / 1e6:.2f}")
        for cost in self.recordings:
            table.add_row(f"{cost.classes} {cost.tokens}, on / off", *cost.ratio.cells())
        for cost in self.recordings:
            name = f"{cost.classes} {cost.tokens}, MB of maps and of traffic, SD 1.5, counted"
            numbers = f"{cost.sd15_map_bytes / 1e6:.1f}", f"{cost.sd15_call_bytes / 1e6:.0f} a call"
            table.add_row(name, *numbers)
        counted = f"{self.sd15_map_bytes_per_image / 1e6:.2f}"
        table.add_row("MB of maps an image, SD 1.5 at 512x512, counted", counted)
        return table


def bench_attention(
    config: RunConfig,
    *,
    batch_size: int = 8,
    rounds: int = 7,
    memory_steps: tuple[int, int] = (4, 40),
    classes: Sequence[int] = (20,),
    say: Callable[[str], object] = lambda line: None,
) -> AttentionBench:
    """Time and memory of drawing with and without recording the maps of 20 pairs.

    Plain diffusers, our drawing and our drawing with recording are timed in every round, by turns;
    so are pairs and words of each number of classes.

    Args:
        config: model, synthesis, branch and threads; tokens are the model's own untrained pairs.
        batch_size: images drawn at once.
        rounds: how often each is timed, at least 2.
        memory_steps: numbers of steps that memory is measured at.
        classes: numbers of classes; beyond 20 the rows of those 20 come again, at equal cost.
        say: takes a line about each part that begins.

    Raises:
        ConfigError: no such model or device, or numbers that cannot be measured.
    """
    check_rounds(rounds, batch_size)
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    machine = Machine.here()
    say(f"loading {config.model.id}")
    loaded = load_pipeline(config.model)
    attention = PipelineAttention(loaded)
    phrases = default_classes().phrase_by_name
    rows = {
        "pairs": untrained_targets(phrases, attention.encode),
        "words": phrase_targets(phrases, attention.encode),
    }
    method = build_method("ovam", attention, rows["pairs"])

    def drawing(steps: int) -> _Drawing:
        settings = config.synthesis.model_copy(update={"steps": steps, "safety": "off"})
        return _Drawing(loaded, method, Synthesiser(loaded, settings), config, batch_size)

    draw = drawing(config.synthesis.steps)
    plain = plain_diffusers(loaded, config.synthesis, batch_size)
    say(f"timing {rounds} rounds of {batch_size} images, after one that does not count")
    ways: dict[str, Callable[[], object]] = {
        "plain": plain,
        "off": lambda: draw(False),
        "on": lambda: draw(True),
    }
    wanted = [(tokens, count) for count in classes for tokens in rows]
    for tokens, count in wanted:
        targets = list(itertools.islice(itertools.cycle(rows[tokens]), count))
        other = replace(draw, method=build_method("ovam", attention, targets))
        ways[f"{count} {tokens}"] = functools.partial(other, True)
    turns = time_by_turns(ways, rounds)
    times, cpu = turns.wall, turns.cpu
    ratio = Spread.of_ratios(times["on"], times["off"])
    say(f"measuring memory at {memory_steps[0]} and {memory_steps[1]} steps")
    off, _ = _peak_bytes(loaded, drawing(memory_steps[0]), recorded=False)
    on = [_peak_bytes(loaded, drawing(steps), recorded=True) for steps in memory_steps]
    return AttentionBench(
        machine=machine,
        model=loaded.info.model,
        device=str(loaded.pipe.device),
        height=draw.synthesiser.height,
        width=draw.synthesiser.width,
        batch_size=batch_size,
        steps=config.synthesis.steps,
        rounds=rounds,
        plain_seconds=Spread.of(times["plain"]).median,
        off_seconds=Spread.of(times["off"]).median,
        on_seconds=Spread.of(times["on"]).median,
        ratio=ratio.median,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        ratio_to_plain=Spread.of_ratios(times["on"], times["plain"]),
        cpu_ratio=Spread.of_ratios(cpu["on"], cpu["off"]),
        cpu_ratio_to_plain=Spread.of_ratios(cpu["on"], cpu["plain"]),
        memory_steps=memory_steps,
        peak_bytes=(on[0][0], on[1][0]),
        peak_bytes_off=off,
        sink_bytes=(on[0][1], on[1][1]),
        map_bytes_per_image=_map_bytes(drawing(1)) // batch_size,
        sd15_map_bytes_per_image=sd15_call_cost().map_bytes,
        recordings=tuple(_recording_cost(turns, *each) for each in wanted),
    )


def _recording_cost(turns: Turns, tokens: str, classes: int) -> RecordingCost:
    way, counted = f"{classes} {tokens}", sd15_call_cost(tokens, classes)
    return RecordingCost(
        tokens=tokens,
        classes=classes,
        ratio=Spread.of_ratios(turns.wall[way], turns.wall["off"]),
        cpu_ratio=Spread.of_ratios(turns.cpu[way], turns.cpu["off"]),
        sd15_call_bytes=counted.recording_bytes,
        sd15_map_bytes=counted.map_bytes,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """One batch, recorded or not; images end on the CPU, so a GPU has finished on return."""

    loaded: LoadedPipeline
    method: HeatmapMethod
    synthesiser: Synthesiser
    config: RunConfig
    batch_size: int

    def __call__(self, recorded: bool) -> HeatmapSink | None:
        if not recorded:
            self.record_into()
            return None
        sink = self.method.open(self.prompts)
        self.record_into(sink)
        sink.class_maps().cpu()
        return sink

    @property
    def prompts(self) -> Sequence[str]:
        return [PROMPT] * self.batch_size

    def record_into(self, *sinks: HeatmapSink | ScratchMeter) -> None:
        listeners = [(sink, self.config.attribution.half) for sink in sinks]
        self.synthesiser.draw(self.prompts, range(self.batch_size), listeners=listeners)


def plain_diffusers(
    loaded: LoadedPipeline, settings: SynthesisConfig, batch_size: int
) -> Callable[[], object]:
    """A batch as anybody draws it with diffusers: the same weights, scheduler, size and steps."""
    scheduler = scheduler_class(settings.scheduler).from_config(loaded.pipe.scheduler.config)
    pipe = loaded.with_parts(scheduler=scheduler, safety_checker=None).pipe
    sizes = Synthesiser(loaded, settings)

    def draw() -> object:
        return pipe(
            prompt=[PROMPT] * batch_size,
            negative_prompt=negative_prompts(pipe, settings.negative_prompt, batch_size),
            height=sizes.height,
            width=sizes.width,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in range(batch_size)],
            output_type="np",
        ).images

    return draw


def _peak_bytes(loaded: LoadedPipeline, draw: _Drawing, *, recorded: bool) -> tuple[int, int]:
    """(peak of live tensors beside the weights, bytes of the sink afterwards)."""
    if loaded.pipe.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        sink = draw(recorded)
        peak = torch.cuda.max_memory_allocated() - before
    else:
        with LiveTensorBytes() as live:
            sink = draw(recorded)
        peak = live.peak
    return peak, sink.nbytes if sink is not None else 0


def _map_bytes(draw: _Drawing) -> int:
    """Bytes of the running sums and of the largest scratch, of the whole batch."""
    meter = ScratchMeter(draw.method.open(draw.prompts))
    draw.record_into(meter)
    return meter.nbytes
