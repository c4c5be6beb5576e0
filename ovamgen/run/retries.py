"""Failed samples and later attempts at them: which still count as failed, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ovamgen.plan.planning import Plan
from ovamgen.records import Retry, SampleFailure, SampleSpec, ShardRecord
from ovamgen.run.generations import Generation
from ovamgen.shards.finished_shard import read_metadata, read_retries
from ovamgen.storage.interface import Store


def superseded(
    store: Store, records: Mapping[int, ShardRecord], runs: Sequence[Mapping[str, Any]]
) -> frozenset[str]:
    """Keys of the samples that there is a later attempt at, which tells what became of them.

    Only metadata of shards that hold retries is read.

    Args:
        store: of the corpus.
        records: of its finished shards, by index.
        runs: ``run.yaml`` of its generations.

    Raises:
        ShardError: metadata is missing or damaged.
    """
    latest: dict[str, str] = {}
    done: set[str] = set()
    for index in _shards_of_retries(records, runs):
        for key, retry in sorted(read_retries(store, records[index]).items()):
            done.add(latest.get(retry.of, retry.of))
            latest[retry.of] = key
    return frozenset(done)


def failed_samples(
    store: Store,
    records: Mapping[int, ShardRecord],
    plan: Plan,
    runs: Sequence[Mapping[str, Any]],
) -> list[tuple[SampleSpec, Retry, SampleFailure]]:
    """The samples that no attempt has made, as they were planned, each with its next attempt.

    Args:
        store: of the corpus.
        records: of its finished shards, by index.
        plan: of all its generations.
        runs: ``run.yaml`` of its generations.

    Raises:
        ShardError: metadata is missing or damaged.
    """
    done = superseded(store, records, runs)
    found = []
    for index, record in sorted(records.items()):
        if not record.failed:
            continue
        specs = {spec.key: spec for spec in plan.tasks[index].specs}
        table = read_metadata(store, record, ["key", "status", "stage", "reason"])
        for row in sorted(table.to_pylist(), key=lambda row: row["key"]):
            if row["status"] == "failed" and row["key"] not in done:
                failure = SampleFailure(key=row["key"], stage=row["stage"], reason=row["reason"])
                spec = specs[row["key"]]
                found.append((spec, _next_attempt(spec), failure))
    return found


def _next_attempt(spec: SampleSpec) -> Retry:
    if spec.retry is None:
        return Retry(of=spec.key, seed=spec.seed, attempt=1)
    return Retry(of=spec.retry.of, seed=spec.seed, attempt=spec.retry.attempt + 1)


def _shards_of_retries(
    records: Mapping[int, ShardRecord], runs: Sequence[Mapping[str, Any]]
) -> Iterator[int]:
    generations = [Generation.of(run) for run in runs]
    for index in sorted(records):
        own = [generation for generation in generations if generation.first_shard <= index]
        if own and own[-1].retries:
            yield index
