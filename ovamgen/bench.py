"""What recording attention costs: time with and without it, and memory by number of steps."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ovamgen.attribution.interface import HeatmapMethod, HeatmapSink
from ovamgen.attribution.method import build_method
from ovamgen.config import RunConfig
from ovamgen.diffusion.pipeline import LoadedPipeline, load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine import PipelineAttention, class_targets, use_repeatable_arithmetic
from ovamgen.errors import ConfigError

_PROMPT = "a photograph of a cat"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionBench:
    """Recording on against off, in one process, by turns."""

    model: str
    device: str
    height: int
    width: int
    batch_size: int
    steps: int
    rounds: int
    off_seconds: float
    """Median time of one batch without recording."""
    on_seconds: float
    """Median time of one batch with recording, its heatmaps included."""
    ratio: float
    """Median of the rounds' ratios, on / off."""
    ratio_low: float
    """First quartile of the ratios."""
    ratio_high: float
    """Third quartile."""
    memory_steps: tuple[int, int]
    peak_bytes: tuple[int, int]
    """Largest sum of live tensors made while drawing with recording, at each of `memory_steps`."""
    peak_bytes_off: int
    """The same without recording, at the first of `memory_steps`."""
    sink_bytes: tuple[int, int]
    """What the running sums hold after so many steps."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        return asdict(self)

    def table(self) -> Table:
        """A table for people."""
        few, many = self.memory_steps
        table = Table(
            title=f"{self.model} on {self.device}: {self.batch_size} images of "
            f"{self.height}x{self.width}, {self.steps} steps, {self.rounds} rounds"
        )
        for name in ("", "off", "on", "on / off"):
            table.add_column(name, justify="right" if name else "left")
        table.add_row(
            "seconds a batch",
            f"{self.off_seconds:.3f}",
            f"{self.on_seconds:.3f}",
            f"{self.ratio:.3f} ({self.ratio_low:.3f} .. {self.ratio_high:.3f})",
        )
        off = self.peak_bytes_off
        for steps, on in zip((few, many), self.peak_bytes, strict=True):
            off_text = f"{off / 1e6:.1f}" if steps == few else ""
            table.add_row(f"peak MB, {steps} steps", off_text, f"{on / 1e6:.1f}", f"{on / off:.3f}")
        table.add_row(
            "MB of running sums", "", " / ".join(f"{b / 1e6:.2f}" for b in self.sink_bytes), ""
        )
        return table


class LiveTensorBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    """While active, follows the storages of all tensors that operations make.

    ``peak`` is the largest sum of bytes alive at once: what a device's allocator would have had to
    hold, without what lies in caches. For the CPU, where torch keeps no such count.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self.peak = 0
        self._live: dict[int, int] = {}
        self._sum = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            # views share the storage of what they look at
            if storage._cdata not in self._live:
                self._live[storage._cdata] = storage.nbytes()
                self._sum += storage.nbytes()
                self.peak = max(self.peak, self._sum)
                weakref.finalize(storage, self._forget, storage._cdata).atexit = False
        return result

    def _forget(self, key: int) -> None:
        self._sum -= self._live.pop(key)


def bench_attention(
    config: RunConfig,
    *,
    batch_size: int = 8,
    rounds: int = 7,
    memory_steps: tuple[int, int] = (4, 40),
) -> AttentionBench:
    """Time and memory of drawing with and without recording the maps of 20 pairs.

    Both kinds are timed in every round, in an order that alternates, after one round that does not
    count: a machine that slows down or warms up slows both.

    Args:
        config: model, synthesis, branch and threads; tokens are the model's own untrained pairs.
        batch_size: images drawn at once.
        rounds: how often each kind is timed, at least 2.
        memory_steps: numbers of steps that memory is measured at.

    Raises:
        ConfigError: no such model or device, or numbers that cannot be measured.
    """
    if rounds < 2 or batch_size < 1:
        raise ConfigError(
            f"a bench needs at least 2 rounds of at least 1 image, got {rounds} of {batch_size}"
        )
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    loaded = load_pipeline(config.model)
    attention = PipelineAttention(loaded)
    method = build_method("ovam", attention, class_targets("untrained", None, attention))

    def drawing(steps: int) -> Callable[[bool], HeatmapSink | None]:
        settings = config.synthesis.model_copy(update={"steps": steps, "safety": "off"})
        return _Drawing(loaded, method, Synthesiser(loaded, settings), config, batch_size)

    draw = drawing(config.synthesis.steps)
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds + 1):
        for recorded in (False, True) if number % 2 else (True, False):
            begin = time.perf_counter()
            draw(recorded)
            if number:
                times[recorded].append(time.perf_counter() - begin)
    ratios = [on / off for on, off in zip(times[True], times[False], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    off, _ = _peak_bytes(loaded, drawing(memory_steps[0]), recorded=False)
    on = [_peak_bytes(loaded, drawing(steps), recorded=True) for steps in memory_steps]
    sizes = Synthesiser(loaded, config.synthesis)
    return AttentionBench(
        model=loaded.info.model,
        device=str(loaded.pipe.device),
        height=sizes.height,
        width=sizes.width,
        batch_size=batch_size,
        steps=config.synthesis.steps,
        rounds=rounds,
        off_seconds=statistics.median(times[False]),
        on_seconds=statistics.median(times[True]),
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        memory_steps=memory_steps,
        peak_bytes=(on[0][0], on[1][0]),
        peak_bytes_off=off,
        sink_bytes=(on[0][1], on[1][1]),
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
        prompts = [_PROMPT] * self.batch_size
        sink = self.method.open(prompts) if recorded else None
        self.synthesiser.draw(
            prompts, range(self.batch_size), sink=sink, branch=self.config.attribution.half
        )
        if sink is not None:
            sink.class_maps().cpu()
        return sink


def _peak_bytes(
    loaded: LoadedPipeline, draw: Callable[[bool], HeatmapSink | None], *, recorded: bool
) -> tuple[int, int]:
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
