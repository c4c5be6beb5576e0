"""A bad sample alone: found, recorded, and without effect on its neighbours.

What an engine is to a run stands here as well; shards and stores are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from ovamgen import fault_points
from ovamgen.config import RunConfig
from ovamgen.errors import OvamgenError, SampleError
from ovamgen.records import ModelInfo, SampleFailure, SampleSpec, SynthesisBatch

SAMPLE_ERRORS = (SampleError, RuntimeError, ValueError, TypeError, ArithmeticError, LookupError)
"""What one bad sample may raise in torch, diffusers, numpy or Pillow: it is recorded, and its
neighbours go on. Errors of the configuration or the store are about the run and pass through."""


EARLY_STOP_SAMPLES = 16
"""Failures in a row, from the beginning, that are the run's fault and not the samples'."""


@runtime_checkable
class SampleEngine(Protocol):
    """What a run needs of a loaded pipeline; `ovamgen.engine.engine.Engine` is the real one."""

    @property
    def info(self) -> ModelInfo:
        """What was loaded."""

    @property
    def tokens_digest(self) -> str:
        """sha256 of the token bank's pairs, "" for words."""

    def synthesise(self, specs: Sequence[SampleSpec]) -> SynthesisBatch:
        """Images and heatmaps of the specs; samples that fail by themselves are in `failures`."""


EngineFactory = Callable[[RunConfig], SampleEngine]


def synthesise_surviving(
    engine: SampleEngine, specs: Sequence[SampleSpec], culprits: Mapping[str, str] | None = None
) -> SynthesisBatch:
    """The batch; where it fails, its samples are probed and the culprits become failures.

    The neighbours of a culprit are drawn in a batch of the planned size, so that their last bits
    do not depend on it.

    Args:
        engine: the loaded pipeline.
        specs: the batch as it was planned.
        culprits: reason by key, of samples that are known not to be makeable.
    """
    fault_points.reach("batch.begun")
    known = dict(culprits or {})
    try:
        return _synthesise_without(engine, specs, known)
    except SAMPLE_ERRORS as error:
        reason = one_line(error)
    survivors = [spec for spec in specs if spec.key not in known]
    known |= _find_culprits(engine, survivors, reason)
    try:
        return _synthesise_without(engine, specs, known)
    except SAMPLE_ERRORS as error:
        reason = f"fails only together with its batch: {one_line(error)}"
    everything = {spec.key: known.get(spec.key, reason) for spec in specs}
    return _synthesise_without(engine, specs, everything)


def _synthesise_without(
    engine: SampleEngine, specs: Sequence[SampleSpec], culprits: Mapping[str, str]
) -> SynthesisBatch:
    """The batch without some of its samples, which become failures.

    A copy of a neighbour stands in for each of them: kernels are chosen by the size of a batch, and
    with it the last bits of all its images.
    """
    if not culprits:
        return engine.synthesise(specs)
    survivors = [spec for spec in specs if spec.key not in culprits]
    failures = tuple(
        SampleFailure(key=spec.key, stage="synthesis", reason=culprits[spec.key])
        for spec in specs
        if spec.key in culprits
    )
    if not survivors:
        return SynthesisBatch(
            specs=(),
            images=np.zeros((0, 1, 1, 3), np.uint8),
            heatmaps=np.zeros((0, 1, 1, 1), np.float16),
            heatmap_max=(),
            class_ids=(),
            all_classes=True,
            unsafe=(),
            failures=failures,
        )
    batch = engine.synthesise([s if s.key not in culprits else survivors[0] for s in specs])
    first = {spec.key: index for index, spec in reversed([*enumerate(batch.specs)])}
    kept = sorted(first.values())
    own = {failure.key: failure for failure in batch.failures}
    return SynthesisBatch(
        specs=tuple(batch.specs[index] for index in kept),
        images=batch.images[kept],
        heatmaps=batch.heatmaps[kept],
        heatmap_max=tuple(batch.heatmap_max[index] for index in kept),
        class_ids=batch.class_ids,
        all_classes=batch.all_classes,
        unsafe=tuple(batch.unsafe[index] for index in kept),
        failures=(*own.values(), *failures),
        files=tuple(batch.files[index] for index in kept) if batch.files else (),
    )


def _find_culprits(
    engine: SampleEngine, specs: Sequence[SampleSpec], reason: str
) -> dict[str, str]:
    """The samples of a failed batch that fail alone, with their reasons, by halving."""
    if len(specs) == 1:
        return {specs[0].key: reason}
    culprits: dict[str, str] = {}
    middle = len(specs) // 2
    for half in (specs[:middle], specs[middle:]):
        try:
            engine.synthesise(half)
        except SAMPLE_ERRORS as error:
            culprits |= _find_culprits(engine, half, one_line(error))
    return culprits


class EarlyStop:
    """Ends a run whose samples all fail, before it has written a shard of nothing but failures."""

    def __init__(self, *, made_before: int = 0, largest_shard: int = EARLY_STOP_SAMPLES) -> None:
        """The run stops when so many samples have failed and none has been made.

        Args:
            made_before: samples of the run's finished shards: the run is known to work.
            largest_shard: samples in the largest shard that is still to be made. Where it is small
                the run stops after that many failures: a finished shard would not be made again.
        """
        self._limit = min(EARLY_STOP_SAMPLES, largest_shard)
        self._made = made_before
        self._failed = 0

    def count(self, made: int, failures: Sequence[SampleFailure]) -> None:
        """Take note of a batch, once it is known what became of each of its samples.

        Args:
            made: samples that are encoded; where some of a batch are, they may be told before the
                others have ended.
            failures: of any stage.

        Raises:
            OvamgenError: everything so far has failed; the last one's stage and reason are named.
        """
        self._made += made
        broken = [failure for failure in failures if failure.stage != "safety"]
        self._failed += len(broken)
        if broken and not self._made and self._failed >= self._limit:
            raise OvamgenError(
                f"the first {self._failed} samples all failed, so the run stops; the last one in "
                f"{broken[-1].stage}: {broken[-1].reason}"
            )


def one_line(error: BaseException) -> str:
    """The error's type and message on one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
