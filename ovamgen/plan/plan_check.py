"""Whether the rows of a plan follow each other as they must; whole columns at a time."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from ovamgen.bounds import MAX_SHARD_SIZE, MAX_SHARDS
from ovamgen.errors import PlanError
from ovamgen.plan.prompts import Reason

_LISTS = ("class_ids", "class_names", "phrases")


@cache
def _reasons() -> pa.Array:
    # not at import: pyarrow looks for pandas when it makes its first array, and help can wait
    return pa.array([reason.value for reason in Reason])


class PlanCheck:
    """Takes the rows of a plan in parts; knows afterwards where each shard begins.

    Samples stand before what was left out; shards, keys and batches have no gap.
    """

    def __init__(self, first_shard: int = 0) -> None:
        """``first_shard`` is the index of the first shard."""
        self._starts: list[Int64[np.ndarray, " n"]] = []
        self.rows = 0
        """Rows so far."""
        self._samples = 0
        self._shard, self._batch, self._index = first_shard - 1, -1, 0
        """Shard, batch and place in the shard of the last sample so far."""
        self._ended = False

    @property
    def shard_starts(self) -> Int64[np.ndarray, " shards_and_one"]:
        """Row at which each shard begins, and last the number of samples."""
        return np.concatenate([*self._starts, np.array([self._samples], np.int64)])

    def add(self, batch: pa.RecordBatch) -> None:
        """The next rows.

        Raises:
            PlanError: they are not in order.
            ValueError: a value that no plan has.
        """
        batch.validate(full=True)
        self.rows += batch.num_rows
        lengths = [pc.list_value_length(batch.column(name)) for name in _LISTS]
        if any(not lengths[0].equals(other) for other in lengths[1:]):
            raise ValueError("ids, names and phrases of classes differ in number")
        reasons = batch.column("reason")
        is_taken = pc.equal(reasons, "").to_numpy(zero_copy_only=False)
        known = pc.is_in(reasons, value_set=_reasons()).to_numpy(zero_copy_only=False)
        if not (known | is_taken).all():
            unknown = reasons[int(np.argmin(known | is_taken))].as_py()
            raise ValueError(f"{unknown!r:.60} is no reason to leave a caption out")
        taken = int(is_taken.sum())
        if not is_taken[:taken].all() or (taken and self._ended):
            raise PlanError("the plan is damaged: a sample stands behind what was left out")
        self._ended |= taken < len(is_taken)
        if taken:
            self._add_samples(batch.slice(0, taken))

    def _add_samples(self, samples: pa.RecordBatch) -> None:
        shards = samples.column("shard_index").to_numpy().astype(np.int64)
        batches = samples.column("batch_index").to_numpy().astype(np.int64)
        is_new = np.diff(shards, prepend=self._shard) != 0
        first = np.flatnonzero(is_new)
        rows = np.arange(len(shards))
        # the place in the shard: rows since its first one, or since the rows before these
        begin = np.where(is_new, rows, -1 - self._index)
        index = rows - np.maximum.accumulate(begin)
        steps = np.diff(batches, prepend=self._batch)
        followed = np.where(is_new, batches == 0, (steps == 0) | (steps == 1))
        in_order = followed & (np.diff(shards, prepend=self._shard) == is_new)
        in_order &= self._keys_fit(samples.column("key"), shards, index)
        if not in_order.all():
            shard = int(shards[np.argmin(in_order)])
            raise PlanError(f"the plan is damaged: the samples of shard {shard} are not in order")
        self._starts.append(first + self._samples)
        self._samples += len(shards)
        self._shard, self._batch = int(shards[-1]), int(batches[-1])
        self._index = int(index[-1])

    @staticmethod
    def _keys_fit(
        keys: pa.Array, shards: Int64[np.ndarray, " n"], index: Int64[np.ndarray, " n"]
    ) -> np.ndarray:
        """Whether each key is that of its place: six digits of the shard, five of the index."""
        room = (shards >= 0) & (shards < MAX_SHARDS) & (index < MAX_SHARD_SIZE)
        numbers = pa.array(np.where(room, shards * MAX_SHARD_SIZE + index, 0))
        expected = pc.utf8_lpad(pc.cast(numbers, pa.string()), 11, "0")
        return room & pc.equal(keys, expected).to_numpy(zero_copy_only=False)
