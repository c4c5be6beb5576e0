"""How fast a device draws, by combination of switches and batch size, against its floor.

The floor is arithmetic: operations of the UNet calls over the rate of matrix products that the
device reaches in the same run. A combination that fails is a row with its reason. A batch ends with
its images checked, in the host's memory; what a run saves by drawing the next one meanwhile is not
in the figures.
"""

from __future__ import annotations

import gc
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from jaxtyping import Float32, UInt8
from transformers import CLIPConfig, CLIPImageProcessor

from ovamgen.attribution.maps import MapSums
from ovamgen.attribution.ovam import Ovam
from ovamgen.attribution.targets import untrained_targets
from ovamgen.bench.arithmetic import finish, image_cost, matmul_rate
from ovamgen.bench.combinations import DTYPES, Combination, prepare
from ovamgen.bench.gpu_rows import GpuBench, GpuRow, Timings
from ovamgen.bench.machine import Machine
from ovamgen.bench.timing import Spread, check_rounds, time_by_turns
from ovamgen.bench.unet_calls import FastUnet, second_unet
from ovamgen.classes.loading import default_classes
from ovamgen.config import RunConfig
from ovamgen.diffusion.drawing import Drawing
from ovamgen.diffusion.pipeline import LoadedPipeline, load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.opened_model import PipelineAttention, use_repeatable_arithmetic
from ovamgen.errors import ConfigError, OvamgenError

_PROMPT = "a photograph of a cat"

_FAILURES = (
    OvamgenError,
    RuntimeError,  # out of memory, CUDA, dynamo and inductor are subclasses
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
    subprocess.SubprocessError,
)
"""What a combination may fail of: compilers raise nearly anything, and other rows go on."""

_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 768,
}
"""Sizes of Stable Diffusion's safety checker: CLIP ViT-L/14."""

Batch = tuple[UInt8[np.ndarray, "B H W 3"], Float32[torch.Tensor, "B K h w"] | None]
"""Images, and raw maps where they were recorded."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Sweep:
    """What all rows have in common."""

    config: RunConfig
    base: LoadedPipeline
    """On the CPU, in float32."""
    device: torch.device
    targets: tuple[Any, ...]
    unet_flops: int
    reference_dtype: str
    rounds: int
    backend: str


def bench_gpu(
    config: RunConfig,
    *,
    combinations: Sequence[Combination],
    batch_sizes: Sequence[int],
    rounds: int = 5,
    backend: str = "inductor",
    save: Callable[[GpuBench], object] = lambda found: None,
    say: Callable[[str], object] = lambda line: None,
) -> GpuBench:
    """Images a second of each combination at each batch size, recording on and off by turns.

    Args:
        config: model, device, synthesis and threads; its dtype is the combinations' affair.
        combinations: what to try; the first that works at a batch size is what images and maps of
            the others are compared with.
        batch_sizes: images drawn at once.
        rounds: how often each kind is timed, at least 2.
        backend: of torch.compile.
        save: takes what there is before the first row and after each one.
        say: takes a line about each row.

    Raises:
        ConfigError: no such model or device, or numbers that cannot be measured.
    """
    check_rounds(rounds, min(batch_sizes, default=0))
    device = torch.device(config.model.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"a CUDA device is to be measured, torch {torch.__version__} sees none: use a machine "
            "with a GPU, or --device cpu for a dry run"
        )
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    machine = Machine.here()
    say(f"loading {config.model.id}")
    own = {"device": "cpu", "dtype": "float32"}
    settings = config.synthesis
    checked = settings.safety != "off"
    base = load_pipeline(config.model.model_copy(update=own), safety=checked)
    if checked and not base.info.trained:
        base = with_checker(base)
    sizes = Synthesiser(base, settings)
    cost = image_cost(
        base,
        steps=settings.steps,
        scheduler=settings.scheduler,
        height=sizes.height,
        width=sizes.width,
        guided=sizes.guided,
    )
    sweep = _Sweep(
        config=config,
        base=base,
        device=device,
        targets=untrained_targets(default_classes().phrase_by_name, PipelineAttention(base).encode),
        unet_flops=cost.unet_flops,
        reference_dtype="bf16" if device.type == "cuda" else "fp32",
        rounds=rounds,
        backend=backend,
    )
    found = GpuBench(
        machine=machine,
        model=base.info.model,
        device=device.type,
        height=sizes.height,
        width=sizes.width,
        steps=settings.steps,
        rounds=rounds,
        reference_dtype=sweep.reference_dtype,
        cost=cost,
        rows=(),
        planned_rows=len(batch_sizes) * len(combinations),
    )
    save(found)
    for batch_size in batch_sizes:
        first: Batch | None = None
        for combination in combinations:
            number = f"{len(found.rows) + 1}/{found.planned_rows}"
            say(f"{number} batch {batch_size}, {combination.name}")
            row, batch = _row(sweep, combination, batch_size, first)
            first = first or batch
            say(f"{number} {_short(row)}")
            found = replace(found, rows=(*found.rows, row))
            save(found)
    return found


def _row(
    sweep: _Sweep, combination: Combination, batch_size: int, first: Batch | None
) -> tuple[GpuRow, Batch | None]:
    timings, batch, reason = None, None, ""
    try:
        timings, batch = _measure(sweep, combination, batch_size, first)
    except _FAILURES as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    # the error is gone, and with it the frames that held tensors
    gc.collect()
    if "compile" in combination:
        torch._dynamo.reset()
    if sweep.device.type == "cuda":
        torch.cuda.empty_cache()
    row = GpuRow(
        combination=combination.name, batch_size=batch_size, timings=timings, reason=reason
    )
    return row, batch


def _measure(
    sweep: _Sweep, combination: Combination, batch_size: int, first: Batch | None
) -> tuple[Timings, Batch]:
    loaded = prepare(sweep.base, combination, sweep.device)
    arms = _arms(sweep, loaded, combination, batch_size)
    begin = time.perf_counter()
    peaks, batches = [], []
    for arm in arms.values():
        peak, batch = _with_peak(arm, sweep.device)
        peaks.append(peak)
        batches.append(batch)
    warmup_seconds = time.perf_counter() - begin
    (images_off, _), recorded = batches
    rate = matmul_rate(sweep.device, DTYPES[sweep.reference_dtype])
    turns = time_by_turns(arms, sweep.rounds)
    times, on = turns.wall, Spread.of(turns.wall["on"])
    timings = Timings(
        off_seconds=Spread.of(times["off"]),
        on_seconds=on,
        ratio=Spread.of_ratios(times["on"], times["off"]),
        cpu_ratio=Spread.of_ratios(turns.cpu["on"], turns.cpu["off"]),
        warmup_seconds=warmup_seconds,
        matmul_flops_per_second=rate,
        images_per_second=batch_size / on.median,
        share=sweep.unet_flops * batch_size / on.median / rate,
        peak_bytes=(peaks[0], peaks[1]) if sweep.device.type == "cuda" else None,
        images_equal=bool(np.array_equal(images_off, recorded[0])),
        pixel_difference=_pixel_difference(recorded, first or recorded),
        map_difference=_map_difference(recorded, first or recorded),
    )
    return timings, recorded


def _arms(
    sweep: _Sweep, loaded: LoadedPipeline, combination: Combination, batch_size: int
) -> dict[str, Callable[[], Batch]]:
    """Drawing a batch without and with recording; done on return, since images end on the CPU."""
    settings, branch = sweep.config.synthesis, sweep.config.attribution.half
    prompts, seeds = [_PROMPT] * batch_size, range(batch_size)
    plain = Synthesiser(loaded, settings)
    if not combination.switches & {"compile", "graphs"}:
        method = Ovam(PipelineAttention(loaded), sweep.targets)

        def record() -> Batch:
            sink = method.open(prompts)
            drawing = plain.begin(prompts, seeds, listeners=[(sink, branch)])
            return _received(plain, drawing, sink.class_maps())

        return {"off": lambda: (plain.draw(prompts, seeds).images, None), "on": record}

    unet = second_unet(loaded.pipe.unet)
    beside = Synthesiser(loaded.with_parts(unet=unet), settings)
    pairs = torch.stack([target.rows for target in sweep.targets])
    FastUnet(loaded.pipe.unet, combination, None, backend=sweep.backend)
    fast = FastUnet(
        unet, combination, pairs, branch=branch, guided=beside.guided, backend=sweep.backend
    )

    def record_fast() -> Batch:
        fast.sums = MapSums()
        drawing = beside.begin(prompts, seeds)
        return _received(beside, drawing, fast.sums.total())

    return {"off": lambda: (plain.draw(prompts, seeds).images, None), "on": record_fast}


def _received(
    synthesiser: Synthesiser, drawing: Drawing, maps: Float32[torch.Tensor, "B K h w"]
) -> Batch:
    """Images and maps in one copy, as a run reads them."""
    drawing.send(maps)
    drawn = synthesiser.receive(drawing)
    return drawn.images, torch.from_numpy(drawn.beside[0])


def with_checker(base: LoadedPipeline, vision: Mapping[str, int] = _VISION) -> LoadedPipeline:
    """The pipeline with a safety checker of random weights, which takes the time of a real one.

    Args:
        base: without one.
        vision: sizes of the checker's image encoder.
    """
    config = CLIPConfig(vision_config=dict(vision), projection_dim=vision["projection_dim"])
    side = vision["image_size"]
    return base.with_parts(
        safety_checker=StableDiffusionSafetyChecker(config).eval(),
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
    )


def _with_peak(arm: Callable[[], Batch], device: torch.device) -> tuple[int, Batch]:
    """(bytes allocated beside what was before, at most; what the arm drew)."""
    if device.type != "cuda":
        return 0, arm()
    finish(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    batch = arm()
    return torch.cuda.max_memory_allocated(device) - before, batch


def _pixel_difference(batch: Batch, first: Batch) -> float:
    return float(np.abs(batch[0].astype(np.int16) - first[0]).mean())


def _map_difference(batch: Batch, first: Batch) -> float:
    maps, reference = batch[1], first[1]
    assert maps is not None
    assert reference is not None
    return float((maps - reference).abs().max() / reference.abs().max())


def _short(row: GpuRow) -> str:
    timings = row.timings
    if timings is None:
        return f"failed: {row.reason}"
    return (
        f"{timings.images_per_second:.3g} images/s, {timings.share:.1%} of the matrix rate, "
        f"recording x {timings.ratio.median:.3f}"
    )
