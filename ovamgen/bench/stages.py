"""Time and bytes of each stage of a sample, one after the other in one process.

The stages are those of `ovamgen.run.shard.make_shard`, called one by one with the same functions,
so that their times can be told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from ovamgen.attribution.interface import HeatmapMethod, HeatmapSink
from ovamgen.attribution.method import build_method
from ovamgen.attribution.targets import AttributedClasses, ClassRows
from ovamgen.attribution.trained_head import open_head
from ovamgen.bench.arithmetic import finish
from ovamgen.bench.crf_rate import CrfRate, crf_inputs, crf_rates
from ovamgen.bench.machine import Machine
from ovamgen.bench.paired import paired
from ovamgen.bench.stage_costs import STAGES, StageCost, StagesBench
from ovamgen.bench.stage_work import NO_DIGEST, DrawnBatch, Tally, encode, make_masks, write
from ovamgen.bench.timing import Spread, check_rounds
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import target_of
from ovamgen.config import MaskConfig, RunConfig
from ovamgen.diffusion.pipeline import LoadedPipeline, load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.engine import class_heatmaps
from ovamgen.engine.opened_model import PipelineAttention, use_repeatable_arithmetic
from ovamgen.engine.token_choice import open_tokens
from ovamgen.errors import ConfigError
from ovamgen.records import SampleSpec
from ovamgen.run.shard import context_of
from ovamgen.storage.store import Store


def bench_stages(
    config: RunConfig,
    store: Store,
    *,
    batch_size: int = 8,
    rounds: int = 5,
    crf_sides: Sequence[int] = (128, 512),
    say: Callable[[str], object] = lambda line: None,
) -> StagesBench:
    """Medians and quartiles of what each stage takes an image, and of dense CRF by image size.

    Args:
        config: model, synthesis, attribution, masks and shards as a run would have them.
        store: takes a shard a round; it must be empty, and is empty again afterwards.
        batch_size: images drawn at once and samples of a shard.
        rounds: how often a shard is made, after one that does not count; at least 2.
        crf_sides: pixels of the square images that dense CRF is timed on.
        say: takes a line about each part that begins.

    Raises:
        ConfigError: no such model, device or token bank, numbers that cannot be measured, or a
            store with files in it.
        ShardError: the store cannot be written.
    """
    check_rounds(rounds, batch_size)
    if names := store.list():
        raise ConfigError(
            f"stages are measured in an empty place, {store.url} holds {names[0]}: its shards "
            "would be written over; give another folder"
        )
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    machine = Machine.here()
    say(f"loading {config.model.id}")
    config, bank = open_tokens(config)
    rows = ClassRows(config.attribution.token_source, bank)
    loaded = load_pipeline(config.model, safety=config.synthesis.safety != "off")
    attention = PipelineAttention(loaded)
    classes = rows.targets(config.classes.classes, attention)
    head = open_head(config)
    method = build_method(
        config.attribution.method, attention, classes.targets, config.masks, head=head
    )
    context = context_of(config, NO_DIGEST, loaded.info, rows.digest)
    synthesiser = Synthesiser(loaded, config.synthesis)
    tallies: list[Tally] = []
    drawn = None
    for number in range(-1, rounds):
        say(f"round {number + 1} of {rounds}" if number >= 0 else "a round that does not count")
        tally = Tally()
        specs = _specs(config.classes, batch_size, shard=number + 1)
        drawn = _draw(tally, loaded, synthesiser, method, classes, config, specs)
        labels = make_masks(tally, drawn, specs, context)
        samples = encode(tally, drawn, labels, specs, context)
        write(tally, store, samples, number + 1, config.shards.split)
        if number >= 0:
            tallies.append(tally)
    assert drawn is not None
    say(f"dense CRF at {', '.join(map(str, crf_sides))} pixels")
    rates: list[CrfRate] = []
    if config.masks.crf.enabled:
        rates = crf_rates(drawn.images, drawn.heatmaps, config.masks, crf_sides, rounds)
    side = max(crf_sides)
    say(f"steps beside the plain way at {side} pixels")
    inputs = crf_inputs(drawn.images, drawn.heatmaps, config.masks, side)
    return StagesBench(
        machine=machine,
        model=loaded.info.model,
        device=loaded.pipe.device.type,
        height=synthesiser.height,
        width=synthesiser.width,
        steps=config.synthesis.steps,
        batch_size=batch_size,
        rounds=rounds,
        store=store.url.partition("://")[0] if "://" in store.url else "local folder",
        stages=tuple(_cost(name, tallies, batch_size, config) for name in STAGES),
        crf=tuple(rates),
        side_px=side,
        pairs=tuple(paired(inputs, config, rounds)),
    )


def _specs(classes: ClassSet, count: int, *, shard: int) -> list[SampleSpec]:
    """One sample of one class each, the same in every round but for its key."""
    specs = []
    for index in range(count):
        entry = classes.classes[index % len(classes)]
        text = f"a photograph of {entry.with_article}"
        specs.append(
            SampleSpec(
                key=f"{shard:06d}{index:05d}",
                prompt=text,
                caption=text,
                targets=(target_of(entry),),
                seed=index,
                caption_id=index,
                image_id=-1,
                word_included=True,
                word_included_published=True,
            )
        )
    return specs


def _draw(
    tally: Tally,
    loaded: LoadedPipeline,
    synthesiser: Synthesiser,
    method: HeatmapMethod,
    classes: AttributedClasses,
    config: RunConfig,
    specs: Sequence[SampleSpec],
) -> DrawnBatch:
    prompts, seeds = [spec.prompt for spec in specs], [spec.seed for spec in specs]
    recording = Tally()
    sink = method.open(prompts)
    device = loaded.pipe.device  # diffusers looks through all parts for it, which takes a while
    _time_updates(sink, recording, lambda: finish(device))
    listeners = [(sink, config.attribution.half)]
    drawn = tally.run("synthesis", synthesiser.draw, prompts, seeds, listeners=listeners)
    # the updates ran inside the drawing
    tally.add(recording)
    tally.take_away("maps", of="synthesis")
    maps, peaks = tally.run("maps", _on_host, sink, config.masks, classes)
    heatmaps = maps.astype(np.float16)
    tally.nbytes["synthesis"] += drawn.images.nbytes
    tally.nbytes["maps"] += heatmaps.nbytes
    ids = tuple(entry.id for entry in config.classes.classes)
    return DrawnBatch(images=drawn.images, heatmaps=heatmaps, heatmap_max=peaks, class_ids=ids)


def _on_host(sink: HeatmapSink, masks: MaskConfig, classes: AttributedClasses) -> list[np.ndarray]:
    return [tensor.cpu().numpy() for tensor in class_heatmaps(sink, masks, classes)]


def _time_updates(sink: HeatmapSink, tally: Tally, wait: Callable[[], None]) -> None:
    """Every call of the recorder into the sink is timed, the device's work in it included."""
    for name in ("begin_call", "update", "update_self"):
        method = getattr(sink, name, None)
        if method is not None:
            setattr(sink, name, _timed(method, tally, wait))


def _timed(
    method: Callable[..., None], tally: Tally, wait: Callable[[], None]
) -> Callable[..., None]:
    def work(*given: Any) -> None:
        method(*given)
        wait()

    @wraps(method)
    def timed(*given: Any) -> None:
        wait()
        tally.run("maps", work, *given)

    return timed


def _cost(stage: str, tallies: Sequence[Tally], images: int, config: RunConfig) -> StageCost:
    counted = stage != "heatmaps npz" or config.shards.heatmaps
    if stage == "dense CRF":
        counted = config.masks.crf.enabled
    return StageCost(
        stage=stage,
        counted=counted,
        seconds_per_image=Spread.of([tally.seconds[stage] / images for tally in tallies]),
        cpu_seconds_per_image=Spread.of([tally.cpu_seconds[stage] / images for tally in tallies]),
        bytes_per_image=sum(tally.nbytes[stage] for tally in tallies) / images / len(tallies),
    )
