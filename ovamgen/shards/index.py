"""The files that describe a finished corpus: manifest, wids index, dataset card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ovamgen.config import canonical_json
from ovamgen.errors import ShardError
from ovamgen.records import ShardRecord
from ovamgen.shards.card import ClassCount, render_card
from ovamgen.shards.interface import Store
from ovamgen.shards.schema import SCHEMA_VERSION

MANIFEST_NAME = "manifest.json"
WIDS_NAME = "index.json"
CARD_NAME = "README.md"


def write_indexes(
    store: Store, records: Iterable[ShardRecord], run_info: Mapping[str, Any]
) -> None:
    """Writes manifest, wids index and dataset card; equal corpora give equal bytes.

    Args:
        store: of the run.
        records: of all its shards, in any order.
        run_info: what ``run.yaml`` holds, plain values; kept in the manifest as it is, and the card
            tells from ``config``, ``model``, ``fingerprint`` and ``ovamgen_version`` how the
            samples were made. Any of them may be missing.

    Raises:
        ShardError: the store failed, or a shard's metadata cannot be read.
    """
    ordered = sorted(records, key=lambda record: record.shard_index)
    store.put(MANIFEST_NAME, _manifest(ordered, run_info))
    store.put(WIDS_NAME, _wids_index(ordered))
    store.put(CARD_NAME, render_card(ordered, count_classes(store, ordered), run_info).encode())


def count_classes(store: Store, records: Iterable[ShardRecord]) -> list[ClassCount]:
    """Samples of every class that occurs, by id; one with several targets counts for each.

    Raises:
        ShardError: a shard's metadata cannot be read.
    """
    counts: Counter[tuple[int, str, str]] = Counter()
    columns = ["status", "class_ids", "class_names", "phrases"]
    for record in records:
        name = f"metadata/{record.shard_index:06d}.parquet"
        try:
            with store.open(name) as file:
                table = pq.read_table(file, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise ShardError(f"{name} in {store.url} cannot be read as Parquet: {error}") from None
        for row in table.to_pylist():
            if row["status"] == "ok":
                counts.update(
                    zip(row["class_ids"], row["class_names"], row["phrases"], strict=True)
                )
    return [ClassCount(*key, samples=count) for key, count in sorted(counts.items())]


def _manifest(records: list[ShardRecord], run_info: Mapping[str, Any]) -> bytes:
    data = {
        "schema_version": SCHEMA_VERSION,
        "samples": sum(record.samples for record in records),
        "failed": sum(record.failed for record in records),
        "shards": [asdict(record) for record in records],
        "run": dict(run_info),
    }
    return canonical_json(data).encode()


def _wids_index(records: list[ShardRecord]) -> bytes:
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
