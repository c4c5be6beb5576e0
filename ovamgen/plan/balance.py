"""Which prompts become samples, and in which order: quotas and balance between the classes."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence

from ovamgen.plan.prompts import PromptSpec, Reason, Rejection


def balance(
    prompts: Sequence[PromptSpec], *, seed: int, per_class: int | None, limit: int | None
) -> tuple[list[PromptSpec], list[Rejection]]:
    """The prompts that are taken, in the order of the samples, and the others with their reasons.

    The class that has the fewest samples so far takes its next prompt; of several, the one with the
    fewest prompts in all. So classes with as many samples as they can have leave the round, and a
    prompt with several targets counts for each of them. Within a class prompts come in the order of
    ``sha256("{seed}:{caption id}:{prompt}")``: neither the order of the file nor that of a set
    matters.

    A prompt is taken only while every one of its targets is below ``per_class``, so no class ever
    exceeds its quota; a class may fall short of it where its prompts also name a class that is
    full. A prompt that finds a target full is not asked again, since counts only grow. A smaller
    ``limit`` gives the first samples of a larger one. O(n log n) for n prompts.

    Args:
        prompts: with distinct caption ids.
        seed: the run's.
        per_class: the most samples of a class, or no bound.
        limit: the most samples in all, or no bound.
    """
    keys = [_order_key(seed, prompt) for prompt in prompts]
    queues: dict[int, list[int]] = {}
    for index in sorted(range(len(prompts)), key=keys.__getitem__):
        for target in prompts[index].targets:
            queues.setdefault(target.id, []).append(index)
    for queue in queues.values():
        queue.reverse()
    available = {class_id: len(queue) for class_id, queue in queues.items()}
    counts = dict.fromkeys(queues, 0)
    settled: dict[int, Reason | None] = {}
    taken: list[PromptSpec] = []

    def is_full(index: int) -> bool:
        targets = prompts[index].targets
        return per_class is not None and any(counts[target.id] >= per_class for target in targets)

    def next_of(class_id: int) -> int | None:
        queue = queues[class_id]
        while queue:
            index = queue.pop()
            if index in settled:
                continue
            if not is_full(index):
                return index
            settled[index] = Reason.QUOTA_FULL
        return None

    turns = [(0, available[class_id], class_id) for class_id in queues]
    heapq.heapify(turns)
    while turns and (limit is None or len(taken) < limit):
        count, size, class_id = heapq.heappop(turns)
        if count < counts[class_id]:
            heapq.heappush(turns, (counts[class_id], size, class_id))
            continue
        chosen = next_of(class_id)
        if chosen is None:
            continue
        settled[chosen] = None
        taken.append(prompts[chosen])
        for target in prompts[chosen].targets:
            counts[target.id] += 1
        heapq.heappush(turns, (counts[class_id], size, class_id))

    rejections = []
    for index, prompt in enumerate(prompts):
        left_over = Reason.QUOTA_FULL if is_full(index) else Reason.LIMIT_REACHED
        reason = settled.get(index, left_over)
        if reason is not None:
            rejections.append(prompt.reject(reason))
    return taken, rejections


def _order_key(seed: int, prompt: PromptSpec) -> bytes:
    text = f"{seed}:{prompt.caption.caption_id}:{prompt.prompt}"
    return hashlib.sha256(text.encode()).digest()
