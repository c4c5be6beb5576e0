"""Captions by the million and finished shards by the hundred thousand, made on the fly."""

from __future__ import annotations

import csv
import dataclasses
import json
from itertools import cycle, islice
from pathlib import Path

from ovamgen.records import ShardRecord
from ovamgen.run.inputs import DEMO_CAPTIONS, captions_path
from ovamgen.shards.output_files import metadata_name, record_name, shard_name
from ovamgen.shards.shard_record import publish_shard, record_to_json
from ovamgen.storage.local import LocalStore

FINGERPRINT = "f" * 64
SPLIT = "train"


def write_captions(path: Path, count: int) -> None:
    """JSON lines: the demo's captions again and again, numbered so that no two are equal."""
    with open(captions_path(DEMO_CAPTIONS), newline="") as file:
        texts = [row["caption"] for row in csv.DictReader(file)]
    with path.open("w") as file:
        for number, text in enumerate(islice(cycle(texts), count)):
            file.write(json.dumps({"id": number, "caption": f"{text}, number {number}"}) + "\n")


def write_finished_shards(root: Path, count: int) -> None:
    """A folder of so many published shards without samples.

    The first is published as every shard is. The records of the others are real too; their tars and
    metadata are holes of the recorded sizes, at which alone a resuming run looks.
    """
    record = publish_shard(
        LocalStore(root),
        shard_index=0,
        split=SPLIT,
        samples=(),
        failures=(),
        fingerprint=FINGERPRINT,
    )
    for index in range(1, count):
        _write_finished(
            root,
            dataclasses.replace(record, shard_index=index, name=shard_name(SPLIT, index)),
        )


def _write_finished(root: Path, record: ShardRecord) -> None:
    (root / record_name(record.shard_index)).write_bytes(record_to_json(record))
    sizes = {
        record.name: record.size_bytes,
        metadata_name(record.shard_index): record.metadata_size_bytes,
    }
    for name, size in sizes.items():
        with (root / name).open("wb") as file:
            file.truncate(size)
