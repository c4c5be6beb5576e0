"""Which prompts become samples, and in which order: quotas and balance between the classes."""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt32


class Candidates:
    """The prompts to choose from, in 20 bytes each: a key that orders them, and their classes."""

    def __init__(self, seed: int) -> None:
        """``seed`` is the run's."""
        self._seed = seed
        self._high, self._low = array("Q"), array("Q")
        self._classes = array("I")

    def __len__(self) -> int:
        return len(self._classes)

    def add(self, caption_id: int, prompt: str, class_ids: Iterable[int]) -> None:
        """One more prompt; its number is the count of those before it.

        Args:
            caption_id: distinct.
            prompt: as it is drawn.
            class_ids: VOC ids of its targets, at least one.
        """
        text = f"{self._seed}:{caption_id}:{prompt}"
        # half of a sha256 orders as the whole does, but for one pair of captions in 2**128
        key = hashlib.sha256(text.encode()).digest()
        self._high.append(int.from_bytes(key[:8], "big"))
        self._low.append(int.from_bytes(key[8:16], "big"))
        self._classes.append(sum(1 << class_id for class_id in class_ids))

    @property
    def order(self) -> Int64[np.ndarray, " N"]:
        """The numbers of all prompts as their keys ascend."""
        keys = (np.frombuffer(part, np.uint64) for part in (self._low, self._high))
        return np.lexsort(tuple(keys)).astype(np.int64, copy=False)

    @property
    def classes(self) -> UInt32[np.ndarray, " N"]:
        """For each prompt, bit c is set where class c is a target."""
        return np.frombuffer(self._classes, np.uint32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What became of the prompts, by their numbers."""

    taken: Int64[np.ndarray, " T"]
    """In the order of the samples."""
    left_out: Bool[np.ndarray, " N"]
    quota_full: Bool[np.ndarray, " N"]
    """Left out because a target had all its samples; the others met the limit."""


def balance(candidates: Candidates, *, per_class: int | None, limit: int | None) -> Choice:
    """The prompts that are taken, in the order of the samples, and why the others are not.

    The class that has the fewest samples so far takes its next prompt; of several, the one with the
    fewest prompts in all. So classes with as many samples as they can have leave the round, and a
    prompt with several targets counts for each of them. Within a class prompts come in the order of
    ``sha256("{seed}:{caption id}:{prompt}")``: neither the order of the file nor that of a set
    matters.

    A prompt is taken only while every one of its targets is below ``per_class``, so no class ever
    exceeds its quota; a class may fall short of it where its prompts also name a class that is
    full. A prompt that finds a target full is not asked again, since counts only grow. A smaller
    ``limit`` gives the first samples of a larger one. O(n log n) for n prompts, and some 50 bytes
    for each of them.

    Args:
        candidates: to choose from.
        per_class: the most samples of a class, or no bound.
        limit: the most samples in all, or no bound.
    """
    classes = candidates.classes
    order = candidates.order
    queues: dict[int, Int64[np.ndarray, " n"]] = {}
    for class_id in range(32):
        queue = order[classes[order] & np.uint32(1 << class_id) != 0]
        if len(queue):
            queues[class_id] = queue
    position = dict.fromkeys(queues, 0)
    counts = dict.fromkeys(queues, 0)
    full = 0
    """Bits of the classes that have their quota."""
    is_taken = np.zeros(len(candidates), np.bool_)
    taken = array("q")

    def next_of(class_id: int) -> int | None:
        queue = queues[class_id]
        for place in range(position[class_id], len(queue)):
            index = int(queue[place])
            if not is_taken[index] and not int(classes[index]) & full:
                position[class_id] = place + 1
                return index
        position[class_id] = len(queue)
        return None

    turns = [(0, len(queue), class_id) for class_id, queue in queues.items()]
    heapq.heapify(turns)
    while turns and (limit is None or len(taken) < limit):
        count, size, class_id = heapq.heappop(turns)
        if count < counts[class_id]:
            heapq.heappush(turns, (counts[class_id], size, class_id))
            continue
        chosen = next_of(class_id)
        if chosen is None:
            continue
        is_taken[chosen] = True
        taken.append(chosen)
        targets = int(classes[chosen])
        for target in queues:
            if targets >> target & 1:
                counts[target] += 1
                if counts[target] == per_class:
                    full |= 1 << target
        heapq.heappush(turns, (counts[class_id], size, class_id))

    return Choice(
        taken=np.array(taken, np.int64),
        left_out=~is_taken,
        quota_full=~is_taken & (classes & np.uint32(full) != 0),
    )
