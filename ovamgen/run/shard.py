"""One shard from start to end in one process: the definition of correct.

The Ray driver runs the same functions in other processes; it may not know better than this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ovamgen import __version__, fault_points
from ovamgen.config import RunConfig
from ovamgen.errors import ConfigError, ShardError
from ovamgen.masks.binarise import make_label_map
from ovamgen.records import (
    EncodedSample,
    ModelInfo,
    SampleFailure,
    ShardRecord,
    ShardTask,
    SynthesisBatch,
)
from ovamgen.run.bad_samples import (
    SAMPLE_ERRORS,
    EngineFactory,
    SampleEngine,
    one_line,
    synthesise_surviving,
)
from ovamgen.run.timing import StageClock
from ovamgen.shards.codec import encode_sample
from ovamgen.shards.schema import Provenance
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import Store
from ovamgen.storage.urls import without_query

Results = Sequence[EncodedSample | SampleFailure]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleContext:
    """What every sample of a run has in common; sent once to each process that makes samples."""

    config: RunConfig
    provenance: Provenance


def load_engine_factory() -> EngineFactory:
    """The real engine; imported only where a pipeline is held, since it brings torch along."""
    from ovamgen.engine.engine import Engine

    return Engine.load


def sample_context(config: RunConfig, fingerprint: str, engine: SampleEngine) -> SampleContext:
    """The context of a run whose pipeline is loaded."""
    return context_of(config, fingerprint, engine.info, engine.tokens_digest)


def context_of(
    config: RunConfig, fingerprint: str, info: ModelInfo, tokens_digest: str
) -> SampleContext:
    """The context of a run, from what its pipeline said of itself in another process."""
    tau = config.masks.tau
    if tau is None:
        raise ConfigError("the configuration is not resolved: masks.tau is missing")
    provenance = Provenance(
        fingerprint=fingerprint,
        model=info.model,
        model_revision=info.revision,
        model_digest=info.digest,
        model_trained=info.trained,
        tokens=without_query(config.attribution.tokens).rsplit("/", 1)[-1],
        tokens_sha256=tokens_digest,
        method=config.attribution.method,
        branch=config.attribution.branch,
        mask_preset=config.masks.preset,
        tau=tau,
        scheduler=config.synthesis.scheduler,
        steps=config.synthesis.steps,
        guidance=config.synthesis.guidance,
        ovamgen_version=__version__,
    )
    return SampleContext(config=config, provenance=provenance)


def refine(
    batch: SynthesisBatch,
    start: int,
    stop: int,
    context: SampleContext,
    clock: StageClock | None = None,
) -> list[EncodedSample | SampleFailure]:
    """Label maps and encoded samples for images ``start`` to ``stop`` of a batch.

    Args:
        batch: what was drawn.
        start: index of the first image.
        stop: index after the last one.
        context: what the run's samples have in common.
        clock: is told the seconds of ``masks`` and ``encoding``.
    """
    fault_points.reach("refine.begun")
    clock = clock or StageClock()
    return [_refine_one(batch, index, context, clock) for index in range(start, stop)]


def _refine_one(
    batch: SynthesisBatch, index: int, context: SampleContext, clock: StageClock
) -> EncodedSample | SampleFailure:
    spec, image, heatmaps = batch.specs[index], batch.images[index], batch.heatmaps[index]
    try:
        rows = [batch.class_ids.index(target.class_id) for target in spec.targets]
        with clock.measure("masks"):
            labels = make_label_map(
                heatmaps[rows],
                [target.class_id for target in spec.targets],
                image,
                context.config.masks,
                context.config.masks.taus(target.class_name for target in spec.targets),
            )
    except SAMPLE_ERRORS as error:
        return SampleFailure(key=spec.key, stage="masks", reason=one_line(error))
    maxima, class_ids = batch.heatmap_max[index], batch.class_ids
    if not batch.all_classes:
        # beyond the number that is always recorded, what is kept is a matter of the sample alone
        heatmaps = heatmaps[rows]
        maxima = tuple(maxima[row] for row in rows)
        class_ids = tuple(class_ids[row] for row in rows)
    try:
        with clock.measure("encoding"):
            return encode_sample(
                spec,
                image=image,
                labels=labels.labels,
                scores=labels.scores,
                areas=labels.areas,
                heatmaps=heatmaps,
                heatmap_max=maxima,
                class_ids=class_ids,
                unsafe=batch.unsafe[index],
                jpeg=batch.files[index] if batch.files else None,
                provenance=context.provenance,
                settings=context.config.shards,
            )
    except SAMPLE_ERRORS as error:
        return SampleFailure(key=spec.key, stage="encoding", reason=one_line(error))


def commit(
    task: ShardTask,
    results: Iterable[EncodedSample | SampleFailure],
    context: SampleContext,
    store: Store,
) -> ShardRecord:
    """The record of the published shard; results may come in any order.

    Raises:
        ShardError: the results are not the samples of the task, each once, or the store failed.
    """
    fault_points.reach("write.begun")
    samples: list[EncodedSample] = []
    failures: list[SampleFailure] = []
    for result in results:
        (samples if isinstance(result, EncodedSample) else failures).append(result)  # type: ignore[arg-type]  # one list a type
    samples.sort(key=lambda sample: sample.key)
    failures.sort(key=lambda failure: failure.key)
    specs = {spec.key: spec for spec in task.specs}
    keys = sorted([*(s.key for s in samples), *(f.key for f in failures)])
    if keys != sorted(specs):
        raise ShardError(
            f"shard {task.shard_index} expected {len(specs)} samples, each once, got {len(keys)} "
            f"results for {len(set(keys))} keys: this is a defect of ovamgen, please report it"
        )
    return publish_shard(
        store,
        shard_index=task.shard_index,
        split=context.config.shards.split,
        samples=samples,
        failures=[(specs[failure.key], failure) for failure in failures],
        fingerprint=context.provenance.fingerprint,
        extra={spec.key: fields for spec in task.specs if (fields := spec.extra_fields)},
    )


def make_shard(
    task: ShardTask,
    engine: SampleEngine,
    context: SampleContext,
    store: Store,
    *,
    after_batch: Callable[[SynthesisBatch, Results], None] = lambda batch, results: None,
    clock: StageClock | None = None,
) -> ShardRecord:
    """The record of one shard, made from start to end in this process.

    Args:
        task: the shard.
        engine: the loaded pipeline.
        context: what the run's samples have in common.
        store: where the shard goes.
        after_batch: called with each batch and what became of its images; may raise to stop.
        clock: is told the seconds of every stage.
    """
    clock = clock or StageClock()
    results: list[EncodedSample | SampleFailure] = []
    for specs in task.batches:
        with clock.measure("synthesis"):
            batch = synthesise_surviving(engine, specs)
        refined = refine(batch, 0, len(batch.specs), context, clock)
        results += [*refined, *batch.failures]
        after_batch(batch, refined)
    with clock.measure("writing"):
        return commit(task, results, context, store)
