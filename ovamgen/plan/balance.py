"""Which prompts become samples, and in which order: quotas and balance between the classes."""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt8


class Candidates:
    """The prompts to choose from, in some 25 bytes each: a key that orders them, their classes."""

    def __init__(self, seed: int) -> None:
        """``seed`` is the run's."""
        self._seed = seed
        self._high, self._low = array("Q"), array("Q")
        self._classes, self._ends = array("B"), array("Q", [0])

    def __len__(self) -> int:
        return len(self._high)

    def add(self, caption_id: int, prompt: str, class_ids: Iterable[int]) -> None:
        """One more prompt; its number is the count of those before it.

        Args:
            caption_id: distinct.
            prompt: as it is drawn.
            class_ids: of its targets, at least one, each once.
        """
        text = f"{self._seed}:{caption_id}:{prompt}"
        # half of a sha256 orders as the whole does, but for one pair of captions in 2**128
        key = hashlib.sha256(text.encode()).digest()
        self._high.append(int.from_bytes(key[:8], "big"))
        self._low.append(int.from_bytes(key[8:16], "big"))
        self._classes.extend(class_ids)
        self._ends.append(len(self._classes))

    @property
    def order(self) -> Int64[np.ndarray, " N"]:
        """The numbers of all prompts as their keys ascend."""
        keys = (np.frombuffer(part, np.uint64) for part in (self._low, self._high))
        return np.lexsort(tuple(keys)).astype(np.int64, copy=False)

    @property
    def classes(self) -> UInt8[np.ndarray, " M"]:
        """The classes of all prompts, one prompt after the other."""
        return np.frombuffer(self._classes, np.uint8)

    @property
    def starts(self) -> Int64[np.ndarray, " N_and_one"]:
        """Where in `classes` those of each prompt begin, and last their number."""
        return np.frombuffer(self._ends, np.uint64).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What became of the prompts, by their numbers."""

    taken: Int64[np.ndarray, " T"]
    """In the order of the samples."""
    left_out: Bool[np.ndarray, " N"]
    quota_full: Bool[np.ndarray, " N"]
    """Left out because a target had all its samples; the others met the limit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Before:
    """What was chosen by earlier generations of a corpus."""

    taken: Int64[np.ndarray, " T"]
    """Numbers of the prompts that are samples already."""
    samples: int
    """Samples in all, of these prompts and of others."""
    by_class: Mapping[int, int]
    """The same of each class, by its id."""


def balance(
    candidates: Candidates,
    *,
    per_class: int | None,
    limit: int | None,
    before: Before | None = None,
    wanted: Mapping[int, int] | None = None,
) -> Choice:
    """The prompts that are taken, in the order of the samples, and why the others are not.

    The class that has the fewest samples so far takes its next prompt; of several, the one with the
    fewest prompts in all. So classes with as many samples as they can have leave the round, and a
    prompt with several targets counts for each of them. Within a class prompts come in the order of
    ``sha256("{seed}:{caption id}:{prompt}")``: neither the order of the file nor that of a set
    matters.

    A prompt is taken only while every one of its targets is below ``per_class``, so no class ever
    exceeds its quota; a class may fall short of it where its prompts also name a class that is
    full. A prompt that finds a target full is not asked again, since counts only grow. A smaller
    ``limit`` gives the first samples of a larger one, and what was taken before is gone on from as
    if it had just been taken. O(n log n) for n prompts, and some 80 bytes for each of them.

    Args:
        candidates: to choose from.
        per_class: the most samples of a class, or no bound.
        limit: the most samples in all, or no bound.
        before: what counts for both bounds and is not taken again.
        wanted: by class id, how many samples a class is to have. Only these classes take turns, and
            leave the round once they have them; others come with their prompts, in any number. All
            classes take turns where None.
    """
    classes, starts = candidates.classes, candidates.starts
    queues = _queues(candidates.order, classes, starts)
    position = dict.fromkeys(queues, 0)
    by_class = before.by_class if before else {}
    counts = {class_id: by_class.get(class_id, 0) for class_id in queues}
    full = {c for c, count in counts.items() if per_class is not None and count >= per_class}
    """The classes that have their quota."""
    is_taken = np.zeros(len(candidates), np.bool_)
    taken = array("q")
    most = None if limit is None else limit - (before.samples if before else 0)
    if before:
        is_taken[before.taken] = True

    def targets_of(number: int) -> bytes:
        return classes[starts[number] : starts[number + 1]].tobytes()

    def next_of(class_id: int) -> int | None:
        queue = queues[class_id]
        for place in range(position[class_id], len(queue)):
            number = int(queue[place])
            if not is_taken[number] and full.isdisjoint(targets_of(number)):
                position[class_id] = place + 1
                return number
        position[class_id] = len(queue)
        return None

    enough = dict.fromkeys(queues) if wanted is None else wanted
    turns = [
        (counts[class_id], len(queue), class_id)
        for class_id, queue in queues.items()
        if class_id in enough
    ]
    heapq.heapify(turns)
    while turns and (most is None or len(taken) < most):
        count, size, class_id = heapq.heappop(turns)
        if count < counts[class_id]:
            heapq.heappush(turns, (counts[class_id], size, class_id))
            continue
        most_of_class = enough[class_id]
        if most_of_class is not None and count >= most_of_class:
            continue
        chosen = next_of(class_id)
        if chosen is None:
            continue
        is_taken[chosen] = True
        taken.append(chosen)
        for target in targets_of(chosen):
            counts[target] += 1
            if counts[target] == per_class:
                full.add(target)
        heapq.heappush(turns, (counts[class_id], size, class_id))

    of_full = np.isin(classes, list(full))
    meets_full = np.add.reduceat(of_full, starts[:-1]) > 0 if len(candidates) else ~is_taken
    return Choice(
        taken=np.array(taken, np.int64),
        left_out=~is_taken,
        quota_full=~is_taken & meets_full,
    )


def _queues(
    order: Int64[np.ndarray, " N"],
    classes: UInt8[np.ndarray, " M"],
    starts: Int64[np.ndarray, " N_and_one"],
) -> dict[int, Int64[np.ndarray, " n"]]:
    """For each class that occurs, by id, the prompts it is a target of, in their order."""
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    # of each entry of `classes`, the rank of its prompt
    ranks = np.repeat(rank, np.diff(starts))
    by_class = np.lexsort((ranks, classes))
    ids, firsts = np.unique(classes[by_class], return_index=True)
    parts = np.split(order[ranks[by_class]], firsts[1:])
    return dict(zip(ids.tolist(), parts, strict=True)) if len(ids) else {}
