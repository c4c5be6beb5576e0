"""Rows of a plan as tasks and rejections, and back; read when they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, overload

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import target_of
from ovamgen.plan.plan_file import SCHEMA, PlanFile
from ovamgen.plan.prompts import Reason, Rejection
from ovamgen.records import SampleSpec, ShardTask, Target

_ROWS_AT_ONCE = 1 << 12


class PlannedTasks(Sequence[ShardTask]):
    """The tasks of a plan, or some of them; each is read from the file when it is asked for."""

    def __init__(self, file: PlanFile, indices: Int64[np.ndarray, " n"] | None = None) -> None:
        """All shards of the plan, or those of the ascending indices."""
        self._file = file
        starts = file.shard_starts
        self._indices = np.arange(len(starts) - 1) if indices is None else indices
        self.sizes: Int64[np.ndarray, " n"] = np.diff(starts)[self._indices]
        """Samples of each task."""

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, place: int) -> ShardTask: ...

    @overload
    def __getitem__(self, place: slice) -> PlannedTasks: ...

    def __getitem__(self, place: int | slice) -> ShardTask | PlannedTasks:
        if isinstance(place, slice):
            return PlannedTasks(self._file, self._indices[place])
        shard = int(self._indices[place])
        starts = self._file.shard_starts
        rows = self._file.rows(int(starts[shard]), int(starts[shard + 1]))
        batches = itertools.groupby(rows, itemgetter("batch_index"))
        return ShardTask(
            shard_index=shard,
            batches=tuple(tuple(map(_spec, in_batch)) for _, in_batch in batches),
        )

    def __iter__(self) -> Iterator[ShardTask]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]  # as of any sequence that is compared by content

    def without(self, done: Iterable[int]) -> PlannedTasks:
        """The tasks whose shard indices are not among those given."""
        is_done = np.zeros(len(self._file.shard_starts), np.bool_)
        is_done[np.fromiter(done, np.int64)] = True
        return PlannedTasks(self._file, self._indices[~is_done[self._indices]])


class PlannedRejections(Sequence[Rejection]):
    """What a plan left out, in the order of the source; read when it is asked for."""

    def __init__(self, file: PlanFile) -> None:
        """All rejections of the plan."""
        self._file = file
        self._start = int(file.shard_starts[-1])

    def __len__(self) -> int:
        return self._file.row_count - self._start

    @overload
    def __getitem__(self, place: int) -> Rejection: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Rejection]: ...

    def __getitem__(self, place: int | slice) -> Rejection | Sequence[Rejection]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        row = self._start + range(len(self))[place]
        return _rejection(self._file.rows(row, row + 1)[0])

    def __iter__(self) -> Iterator[Rejection]:
        for start in range(self._start, self._file.row_count, _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, self._file.row_count)
            yield from map(_rejection, self._file.rows(start, stop))

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]  # as of any sequence that is compared by content


def tables_of(
    tasks: Iterable[ShardTask], rejections: Iterable[Rejection], classes: ClassSet
) -> Iterator[pa.Table]:
    """The rows of a plan that is given as records."""
    targets = {entry.name: target_of(entry) for entry in classes.classes}
    taken = (
        _taken_row(task.shard_index, batch_index, spec)
        for task in tasks
        for batch_index, batch in enumerate(task.batches)
        for spec in batch
    )
    rows = itertools.chain(taken, (_rejected_row(rejection, targets) for rejection in rejections))
    while part := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        yield pa.Table.from_pylist(part, SCHEMA)


def _equal(ours: Sequence[Any], theirs: object) -> bool:
    if not isinstance(theirs, Sequence) or isinstance(theirs, str | bytes):
        return NotImplemented
    return len(ours) == len(theirs) and all(map(_same, ours, theirs))


def _same(one: object, other: object) -> bool:
    return one == other


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
