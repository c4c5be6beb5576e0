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
from ovamgen.plan.plan_file import PlanFile, plan_schema
from ovamgen.plan.prompts import Reason, Rejection
from ovamgen.records import NO_PICTURE, Retry, SampleSpec, ShardTask, SourcePicture, Target

_ROWS_AT_ONCE = 1 << 12


class PlannedTasks(Sequence[ShardTask]):
    """The tasks of a plan, or some of them; each is read from its file when it is asked for."""

    def __init__(
        self, files: Sequence[PlanFile], indices: Int64[np.ndarray, " n"] | None = None
    ) -> None:
        """All shards of files that follow each other, or those of the ascending indices."""
        self._files = files
        self._first = files[0].first_shard
        ends = [file.first_shard + len(file.shard_starts) - 1 for file in files]
        self._end = ends[-1]
        self._indices = np.arange(self._first, self._end) if indices is None else indices
        sizes = np.concatenate([np.diff(file.shard_starts) for file in files])
        self.sizes: Int64[np.ndarray, " n"] = sizes[self._indices - self._first]
        """Samples of each task."""

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def indices(self) -> list[int]:
        """Indices of the shards."""
        return [int(index) for index in self._indices]

    @overload
    def __getitem__(self, place: int) -> ShardTask: ...

    @overload
    def __getitem__(self, place: slice) -> PlannedTasks: ...

    def __getitem__(self, place: int | slice) -> ShardTask | PlannedTasks:
        if isinstance(place, slice):
            return PlannedTasks(self._files, self._indices[place])
        shard = int(self._indices[place])
        file = next(file for file in reversed(self._files) if file.first_shard <= shard)
        start, stop = file.shard_starts[shard - file.first_shard :][:2]
        rows = file.rows(int(start), int(stop))
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
        is_done = np.isin(self._indices, np.fromiter(done, np.int64))
        return PlannedTasks(self._files, self._indices[~is_done])


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
    tasks: Iterable[ShardTask],
    rejections: Iterable[Rejection],
    classes: ClassSet,
    *,
    retries: bool = False,
    pictures: bool = False,
) -> Iterator[pa.Table]:
    """The rows of a plan that is given as records.

    Args:
        tasks: of the plan.
        rejections: of the plan.
        classes: that the rejections are of.
        retries: all samples are another attempt at one.
        pictures: all samples are labelled pictures.
    """
    schema = plan_schema(retries=retries, pictures=pictures)
    targets = {entry.name: target_of(entry) for entry in classes.classes}
    taken = (
        _taken_row(task.shard_index, batch_index, spec)
        for task in tasks
        for batch_index, batch in enumerate(task.batches)
        for spec in batch
    )
    beside = NO_PICTURE.fields() if pictures else {}
    left_out = (_rejected_row(rejection, targets) | beside for rejection in rejections)
    rows = itertools.chain(taken, left_out)
    while part := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        yield pa.Table.from_pylist(part, schema)


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
        **spec.extra_fields,
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
        retry=Retry.in_row(row),
        picture=SourcePicture.in_row(row),
    )


def _rejection(row: Mapping[str, Any]) -> Rejection:
    return Rejection(
        caption_id=row["caption_id"],
        image_id=row["image_id"],
        caption=row["caption"],
        reason=Reason(row["reason"]),
        class_names=tuple(row["class_names"]),
    )
