"""The files that describe a finished corpus: manifest, wids index, dataset card."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ovamgen import fault_points
from ovamgen.config import canonical_json
from ovamgen.records import ShardRecord
from ovamgen.shards.card import ClassCount, render_card
from ovamgen.shards.finished_shard import read_metadata
from ovamgen.shards.output_files import (
    CARD_NAME,
    MANIFEST_NAME,
    WIDS_NAME,
    plan_name,
    run_name,
)
from ovamgen.shards.schema import SCHEMA_VERSION
from ovamgen.storage.interface import Store


def write_indexes(
    store: Store,
    records: Iterable[ShardRecord],
    run_info: Mapping[str, Any],
    generations: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes manifest, wids index and dataset card; equal corpora give equal bytes.

    Args:
        store: of the run.
        records: of all its shards, in any order.
        run_info: what ``run.yaml`` holds, plain values; kept in the manifest as it is, and the card
            tells from ``config``, ``model``, ``fingerprint`` and ``ovamgen_version`` how the
            samples were made. Any of them may be missing.
        generations: the same of every generation of a corpus that was extended, the last one
            included, in their order; the manifest lists them where there is more than one.

    Raises:
        ShardError: the store failed, or a shard's metadata cannot be read.
    """
    ordered = sorted(records, key=lambda record: record.shard_index)
    files = digests_of_sources(store, max(1, len(generations)))
    store.put(MANIFEST_NAME, manifest_json(ordered, run_info, files, generations))
    fault_points.reach("index.manifest_put")
    store.put(WIDS_NAME, wids_index(ordered))
    fault_points.reach("index.wids_put")
    store.put(CARD_NAME, render_card(ordered, count_classes(store, ordered), run_info).encode())


def count_classes(store: Store, records: Iterable[ShardRecord]) -> list[ClassCount]:
    """Samples of every class that occurs, by id; one with several targets counts for each.

    Raises:
        ShardError: a shard's metadata cannot be read.
    """
    counts: Counter[tuple[int, str, str]] = Counter()
    columns = ["status", "class_ids", "class_names", "phrases"]
    for record in records:
        table = read_metadata(store, record, columns)
        for row in table.to_pylist():
            if row["status"] == "ok":
                counts.update(
                    zip(row["class_ids"], row["class_names"], row["phrases"], strict=True)
                )
    return [ClassCount(*key, samples=count) for key, count in sorted(counts.items())]


def sha256_of(store: Store, name: str) -> str:
    """sha256 (hex) of a file of the store, read in blocks."""
    with store.open(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # has readinto


def digests_of_sources(store: Store, generations: int = 1) -> dict[str, str]:
    """sha256 by name of plans and ``run.yaml``, which nothing else in an output vouches for.

    What is not there is left out: corpora that were handed on have neither.

    Args:
        store: of the output.
        generations: how many there are.
    """
    names = [name(number) for number in range(generations) for name in (plan_name, run_name)]
    return {name: sha256_of(store, name) for name in names if store.exists(name)}


def manifest_json(
    records: Sequence[ShardRecord],
    run_info: Mapping[str, Any],
    files: Mapping[str, str],
    generations: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """The manifest as canonical JSON.

    Args:
        records: of all shards, by ascending index.
        run_info: as for `write_indexes`.
        files: as `digests_of_sources` gives them.
        generations: as for `write_indexes`.
    """
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "samples": sum(record.samples for record in records),
        "failed": sum(record.failed for record in records),
        "shards": [asdict(record) for record in records],
        "files": dict(files),
        "run": dict(run_info),
        "run_sha256": digest_of_run_info(run_info),
    }
    if len(generations) > 1:
        data["generations"] = generations_of(records, generations)
    return canonical_json(data).encode()


def generations_of(
    records: Sequence[ShardRecord], runs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What a manifest lists of each generation: its shards, what they hold, its ``run.yaml``.

    Args:
        records: of all shards, by ascending index.
        runs: content of every ``run.yaml``, in the order of the generations.
    """
    firsts = [run.get("generation", {}).get("first_shard", 0) for run in runs]
    listed = []
    for run, first, end in zip(runs, firsts, [*firsts[1:], len(records)], strict=True):
        own = [record for record in records if first <= record.shard_index < end]
        listed.append(
            {
                "first_shard": first,
                "shards": len(own),
                "samples": sum(record.samples for record in own),
                "failed": sum(record.failed for record in own),
                "fingerprint": run["fingerprint"],
                "run": dict(run),
            }
        )
    return listed


def digest_of_run_info(run_info: Mapping[str, Any]) -> str:
    """sha256 (hex) of what a manifest holds of its run, so that damage to it shows."""
    return hashlib.sha256(canonical_json(dict(run_info)).encode()).hexdigest()


def wids_index(records: Sequence[ShardRecord]) -> bytes:
    """The index format of wids 0.1 (conventions 3.4); urls are relative to the file itself."""
    shards = [
        {
            "url": record.name,
            "nsamples": record.samples,
            "filesize": record.size_bytes,
            "md5sum": record.md5,
        }
        for record in records
        if record.samples
    ]
    data = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": "ovamgen",
        "shardlist": shards,
    }
    return canonical_json(data).encode()
