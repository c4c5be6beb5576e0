"""Captions that were judged, kept on disk until it is known in which order they stand in the plan.

In memory stay the keys and classes of those that can become samples (`Candidates`), and a byte or
two for each caption.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator
from itertools import pairwise
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from ovamgen.classes.class_set import ClassSet
from ovamgen.config import PlanConfig
from ovamgen.plan.balance import Before, Candidates, Choice
from ovamgen.plan.empty_samples import places_of_empty
from ovamgen.plan.extending import PlannedBefore
from ovamgen.plan.keys import sample_key, sample_seed
from ovamgen.plan.plan_file import SCHEMA
from ovamgen.plan.prompts import PromptSpec, Reason, Rejection

_CHUNK_ROWS = 1 << 16
_TABLE_ROWS = 1 << 17

_REASONS = list(Reason)
_FITS = len(_REASONS)
"""In place of a reason's number: the caption can become a sample."""
_FITS_AS_EMPTY = _FITS + 1
"""The same, of a sample without any class."""

_STORED = pa.schema(
    {name: SCHEMA.field(name).type for name in ("caption_id", "image_id", "caption", "prompt")}
    | {"class_ids": pa.list_(pa.int16()), "in_words": pa.bool_(), "in_words_published": pa.bool_()}
)


class JudgedCaptions:
    """A context manager: captions go in one by one, the rows of the plan come out."""

    def __init__(self, config: PlanConfig, classes: ClassSet, planned: PlannedBefore) -> None:
        self._config = config
        self._planned = planned
        self._already, self._already_empty = array("q"), array("q")
        self._classes = classes
        self._ids = {entry.name: entry.id for entry in classes.classes}
        self.candidates = Candidates(config.seed)
        self._empty = Candidates(config.seed)
        self._ends = array("B")
        self._rows: list[tuple[object, ...]] = []
        descriptor, self._path = tempfile.mkstemp(prefix="ovamgen-plan-", suffix=".arrow")
        self._file = os.fdopen(descriptor, "wb")
        self._writer = pa.ipc.new_file(self._file, _STORED)

    def __enter__(self) -> JudgedCaptions:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Removes the file."""
        self._file.close()
        os.unlink(self._path)

    def add(self, item: PromptSpec | Rejection) -> None:
        """The next caption, in the order of the source."""
        if isinstance(item, Rejection):
            ids = [self._ids[name] for name in item.class_names]
            self._rows.append((item.caption_id, item.image_id, item.caption, "", ids, False, False))
            self._ends.append(_REASONS.index(item.reason))
        else:
            caption = item.caption
            ids = [target.id for target in item.targets]
            kind = self.candidates if ids else self._empty
            if item in self._planned:
                (self._already if ids else self._already_empty).append(len(kind))
            kind.add(caption.caption_id, item.prompt, ids)
            named = item.word_included, item.word_included_published
            self._rows.append(
                (caption.caption_id, caption.image_id, caption.text, item.prompt, ids, *named)
            )
            self._ends.append(_FITS if ids else _FITS_AS_EMPTY)
        if len(self._rows) == _CHUNK_ROWS:
            self._store()

    @property
    def before(self) -> Before:
        """What was chosen by earlier generations."""
        return Before(
            taken=np.array(self._already, np.int64),
            samples=self._planned.samples,
            by_class=self._planned.by_class,
        )

    def tables(self, choice: Choice) -> Iterator[pa.Table]:
        """The rows of the plan: samples in their order, then what was left out, as the source.

        What was planned before is neither. Nothing can be added any more.
        """
        self._store()
        self._writer.close()
        self._file.close()
        ends = np.frombuffer(self._ends, np.uint8).copy()
        fitting = np.flatnonzero(ends == _FITS)
        of_none = np.flatnonzero(ends == _FITS_AS_EMPTY)
        is_empty, empty, not_taken = self._chosen_empty(choice, of_none)
        ends[not_taken] = _REASONS.index(Reason.NO_TARGET)
        taken = choice.taken[: np.count_nonzero(~is_empty)]
        left_out = choice.left_out.copy()
        left_out[choice.taken[len(taken) :]] = True
        ends[fitting[left_out]] = _REASONS.index(Reason.LIMIT_REACHED)
        ends[fitting[choice.quota_full]] = _REASONS.index(Reason.QUOTA_FULL)
        samples = np.empty(len(is_empty), np.int64)
        samples[~is_empty] = fitting[taken]
        samples[is_empty] = empty
        rest = np.flatnonzero(ends < _FITS)
        with pa.memory_map(self._path) as mapped:
            stored = pa.ipc.open_file(mapped)
            for start in range(0, len(samples), _TABLE_ROWS):
                rows = _gathered(stored, samples[start : start + _TABLE_ROWS])
                yield self._sample_table(rows, start)
            for start in range(0, len(rest), _TABLE_ROWS):
                part = rest[start : start + _TABLE_ROWS]
                yield self._rejection_table(_gathered(stored, part), ends[part])

    def _chosen_empty(
        self, choice: Choice, rows: Int64[np.ndarray, " n"]
    ) -> tuple[
        Bool[np.ndarray, " samples"], Int64[np.ndarray, " taken"], Int64[np.ndarray, " others"]
    ]:
        """Which of the samples are without any class, the rows that those are of, the other rows.

        In the order of ``sha256("{seed}:{caption id}:{prompt}")``, as those of a class.
        """
        if not self._config.empty_share:
            return np.zeros(len(choice.taken), np.bool_), rows, rows
        order = self._empty.order
        order = order[~np.isin(order, np.array(self._already_empty, np.int64))]
        is_empty = places_of_empty(
            share=self._config.empty_share,
            limit=self._config.limit,
            targets=len(choice.taken),
            empty=len(order),
            samples_before=self._planned.samples,
            empty_before=self._planned.empty,
        )
        count = np.count_nonzero(is_empty)
        return is_empty, rows[order[:count]], rows[order[count:]]

    def _store(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, _STORED, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=_STORED))
            self._rows = []

    def _sample_table(self, rows: pa.Table, start: int) -> pa.Table:
        """The samples from number ``start`` on, cut into shards and batches."""
        size = self._config.shard_size
        shard, index = np.divmod(np.arange(start, start + rows.num_rows), size)
        shard += self._planned.first_shard
        keys = [sample_key(*place) for place in zip(shard.tolist(), index.tolist(), strict=True)]
        return self._table(
            rows,
            key=pa.array(keys),
            shard_index=pa.array(shard, pa.int32()),
            batch_index=pa.array(index // self._config.batch_size, pa.int32()),
            reason=_constant("", rows),
            prompt=rows.column("prompt"),
            seed=pa.array([sample_seed(self._config.seed, key) for key in keys], pa.int64()),
            word_included=rows.column("in_words"),
            word_included_published=rows.column("in_words_published"),
        )

    def _rejection_table(self, rows: pa.Table, ends: np.ndarray) -> pa.Table:
        return self._table(
            rows,
            key=_constant("", rows),
            shard_index=_constant(pa.scalar(-1, pa.int32()), rows),
            batch_index=_constant(pa.scalar(-1, pa.int32()), rows),
            reason=pa.array([reason.value for reason in _REASONS]).take(pa.array(ends)),
            prompt=_constant("", rows),
            seed=_constant(pa.scalar(-1, pa.int64()), rows),
            word_included=_constant(False, rows),
            word_included_published=_constant(False, rows),
        )

    def _table(self, rows: pa.Table, **columns: pa.Array | pa.ChunkedArray) -> pa.Table:
        """A table of `SCHEMA`: the given columns, the stored ones, and the classes' names."""
        lists = rows.column("class_ids").combine_chunks()
        ids = pc.list_flatten(lists)
        # not at import: pyarrow looks for pandas when it makes its first array
        names = pa.array(self._classes.label_names).take(ids)
        phrases = pa.array(self._classes.label_phrases).take(ids)
        for name, values in (("class_ids", ids), ("class_names", names), ("phrases", phrases)):
            columns[name] = pa.ListArray.from_arrays(lists.offsets, values)
        for name in ("caption_id", "image_id", "caption"):
            columns[name] = rows.column(name)
        return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)


def _constant(value: object, rows: pa.Table) -> pa.Array:
    return pa.repeat(value, rows.num_rows)


def _gathered(stored: pa.ipc.RecordBatchFileReader, rows: Int64[np.ndarray, " n"]) -> pa.Table:
    """Some stored rows, in the order that is asked for; one chunk is looked at at a time."""
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    chunks = range(stored.num_record_batches + 1)
    cuts = np.searchsorted(ascending, [number * _CHUNK_ROWS for number in chunks])
    parts = [
        stored.get_batch(number).take(pa.array(ascending[first:last] - number * _CHUNK_ROWS))
        for number, (first, last) in enumerate(pairwise(cuts))
        if first < last
    ]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return pa.Table.from_batches(parts, _STORED).combine_chunks().take(pa.array(back))
