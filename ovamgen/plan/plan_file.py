"""The plan as a Parquet file: one row a caption, taken and left out alike, typed columns.

Settings and digests stand in the schema's metadata. Equal plans give equal bytes (one pyarrow
version): no clock, no paths, no nulls.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ovamgen.config import canonical_json
from ovamgen.errors import PlanError
from ovamgen.plan.keys import sample_key
from ovamgen.plan.prompts import Reason, Rejection
from ovamgen.plan.source import first_line
from ovamgen.plan.vocabulary import VOC_CLASSES
from ovamgen.records import SampleSpec, ShardTask, Target

SCHEMA_VERSION = 1

_METADATA = b"ovamgen.plan"
_COLUMNS = {
    "key": pa.string(),  # "" where left out, as is the prompt
    "shard_index": pa.int32(),  # -1 where left out, as are batch and seed
    "batch_index": pa.int32(),
    "reason": pa.string(),  # "" where taken
    "caption_id": pa.int64(),
    "image_id": pa.int64(),
    "caption": pa.string(),
    "prompt": pa.string(),
    "class_ids": pa.list_(pa.field("item", pa.int16(), nullable=False)),
    "class_names": pa.list_(pa.field("item", pa.string(), nullable=False)),
    "phrases": pa.list_(pa.field("item", pa.string(), nullable=False)),
    "seed": pa.int64(),
    "word_included": pa.bool_(),
    "word_included_published": pa.bool_(),
}
_SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _COLUMNS.items()])


def pack_plan(
    tasks: Sequence[ShardTask],
    rejections: Sequence[Rejection],
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
) -> bytes:
    """The Parquet file of a plan: samples in their order, then what was left out."""
    targets = {voc_class.name: voc_class.target() for voc_class in VOC_CLASSES}
    rows = [
        _taken_row(task.shard_index, batch_index, spec)
        for task in tasks
        for batch_index, batch in enumerate(task.batches)
        for spec in batch
    ]
    rows += [_rejected_row(rejection, targets) for rejection in rejections]
    header = {"schema_version": SCHEMA_VERSION, "inputs": inputs, "settings": settings}
    schema = _SCHEMA.with_metadata({_METADATA: canonical_json(header).encode()})
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema)
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def unpack_plan(
    data: bytes,
) -> tuple[tuple[ShardTask, ...], tuple[Rejection, ...], dict[str, str], dict[str, Any]]:
    """Tasks, rejections, inputs and settings out of the bytes that `pack_plan` made.

    Raises:
        PlanError: the bytes are damaged, no plan, or of a schema this version does not know.
    """
    try:
        with pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True) as file:
            header = _header(file.schema_arrow.metadata or {})
            if not file.schema_arrow.equals(_SCHEMA):
                raise PlanError("the plan is damaged: its columns are not those of a plan")
            rows = file.read().to_pylist()
        tasks = _tasks([row for row in rows if not row["reason"]])
        rejections = tuple(_rejection(row) for row in rows if row["reason"])
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise PlanError(
            f"the plan cannot be read: {first_line(error)}: make it again with ovamgen plan"
        ) from None
    return tasks, rejections, header["inputs"], header["settings"]


def _taken_row(shard_index: int, batch_index: int, spec: SampleSpec) -> dict[str, Any]:
    return {
        "key": spec.key,
        "shard_index": shard_index,
        "batch_index": batch_index,
        "reason": "",
        "caption_id": spec.caption_id,
        "image_id": spec.image_id,
        "caption": spec.caption,
        "prompt": spec.prompt,
        **_class_lists(spec.targets),
        "seed": spec.seed,
        "word_included": spec.word_included,
        "word_included_published": spec.word_included_published,
    }


def _rejected_row(rejection: Rejection, targets: Mapping[str, Target]) -> dict[str, Any]:
    return {
        "key": "",
        "shard_index": -1,
        "batch_index": -1,
        "reason": rejection.reason.value,
        "caption_id": rejection.caption_id,
        "image_id": rejection.image_id,
        "caption": rejection.caption,
        "prompt": "",
        **_class_lists([targets[name] for name in rejection.class_names]),
        "seed": -1,
        "word_included": False,
        "word_included_published": False,
    }


def _class_lists(targets: Sequence[Target]) -> dict[str, list[Any]]:
    return {
        "class_ids": [target.class_id for target in targets],
        "class_names": [target.class_name for target in targets],
        "phrases": [target.phrase for target in targets],
    }


def _header(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    if _METADATA not in metadata:
        raise PlanError("expected a plan, got another Parquet file: name a plan.parquet")
    header = json.loads(metadata[_METADATA])
    version = header.get("schema_version") if isinstance(header, dict) else None
    if version != SCHEMA_VERSION:
        raise PlanError(
            f"expected a plan of schema version {SCHEMA_VERSION}, got {version}: "
            "use the ovamgen that made it, or plan again"
        )
    if not all(isinstance(header.get(part), dict) for part in ("inputs", "settings")):
        raise PlanError("the plan is damaged: inputs or settings are missing from its metadata")
    return header


def _tasks(rows: Sequence[Mapping[str, Any]]) -> tuple[ShardTask, ...]:
    """The tasks, whose keys and batches must follow each other without a gap."""
    tasks = []
    for shard_index, (shard, in_shard) in enumerate(groupby(rows, itemgetter("shard_index"))):
        samples = list(in_shard)
        keys = [sample_key(shard_index, index) for index in range(len(samples))]
        batches = {
            number: tuple(map(_spec, batch))
            for number, batch in groupby(samples, itemgetter("batch_index"))
        }
        if (
            shard != shard_index
            or [sample["key"] for sample in samples] != keys
            or list(batches) != list(range(len(batches)))
            or sum(map(len, batches.values())) != len(samples)
        ):
            raise PlanError(
                f"the plan is damaged: the samples of shard {shard_index} are not in order"
            )
        tasks.append(ShardTask(shard_index=shard_index, batches=tuple(batches.values())))
    return tuple(tasks)


def _spec(row: Mapping[str, Any]) -> SampleSpec:
    lists = zip(row["class_ids"], row["class_names"], row["phrases"], strict=True)
    return SampleSpec(
        key=row["key"],
        prompt=row["prompt"],
        caption=row["caption"],
        targets=tuple(
            Target(class_id=class_id, class_name=name, phrase=phrase)
            for class_id, name, phrase in lists
        ),
        seed=row["seed"],
        caption_id=row["caption_id"],
        image_id=row["image_id"],
        word_included=row["word_included"],
        word_included_published=row["word_included_published"],
    )


def _rejection(row: Mapping[str, Any]) -> Rejection:
    return Rejection(
        caption_id=row["caption_id"],
        image_id=row["image_id"],
        caption=row["caption"],
        reason=Reason(row["reason"]),
        class_names=tuple(row["class_names"]),
    )
