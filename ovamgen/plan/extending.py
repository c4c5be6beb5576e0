"""What a corpus that is planned already adds to: samples that are not there yet, and second tries.

Old samples keep their shards, keys and seeds. New ones begin a shard of their own behind the last
one, however full that is, and have the key and the seed of their place there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TypeVar

from ovamgen.config import PlanConfig
from ovamgen.plan.keys import sample_key, sample_seed
from ovamgen.plan.plan import Plan
from ovamgen.plan.prompts import PromptSpec
from ovamgen.plan.seen import SeenNumbers
from ovamgen.records import Retry, SampleSpec, ShardTask

T = TypeVar("T")


class PlannedBefore:
    """The samples of earlier generations, as far as a further one depends on them."""

    def __init__(self, plan: Plan | None = None) -> None:
        """Reads the plan once; there are none where it is None.

        Another attempt at a sample stands for the sample itself, so that it counts once.
        """
        self.first_shard = 0
        """Index of the shard that new samples begin with."""
        self.samples = 0
        self.empty = 0
        """Samples without any class."""
        self.by_class: Counter[int] = Counter()
        """Samples that have the class, by its id, as a target."""
        self._seen = SeenNumbers()
        if plan is None:
            return
        self.first_shard = len(plan.tasks)
        for generation in plan.generations:
            if generation.is_retries:
                continue
            self.samples += generation.samples
            for batch in generation.columns("reason", "prompt", "class_ids"):
                for reason, prompt, ids in zip(*(c.to_pylist() for c in batch), strict=True):
                    if not reason:
                        self.empty += not ids
                        self.by_class.update(ids)
                        self._seen.add(_identity(prompt, ids))

    def __contains__(self, item: PromptSpec) -> bool:
        """Whether there is a sample of the same prompt, in any case, with the same classes."""
        return _identity(item.prompt, (entry.id for entry in item.targets)) in self._seen


def plan_retries(plan: Plan, failed: Iterable[tuple[SampleSpec, Retry]]) -> Plan:
    """The plan of a generation that tries failed samples again, each with another seed.

    Args:
        plan: of the corpus.
        failed: each sample as it was planned first, in the order of the keys, and what its new
            attempt is.
    """
    settings = PlanConfig(**plan.settings_of_config)
    first = len(plan.tasks)
    again = [replace(spec, retry=retry) for spec, retry in failed]
    return Plan(
        tasks=cut(again, settings, first),
        rejections=(),
        inputs=plan.inputs,
        settings=plan.settings,
        classes=plan.classes,
        first_shard=first,
        retries=True,
        pictures=plan.is_of_pictures,
    )


def cut(
    samples: Sequence[SampleSpec], config: PlanConfig, first_shard: int = 0
) -> tuple[ShardTask, ...]:
    """The samples in shards and batches, with the keys and seeds of their places.

    Args:
        samples: in their order; keys and seeds that they have do not matter.
        config: `seed`, `shard_size` and `batch_size` are used.
        first_shard: index of the first shard.
    """
    tasks = []
    for shard_index, in_shard in enumerate(_parts(samples, config.shard_size), first_shard):
        keys = [sample_key(shard_index, index) for index in range(len(in_shard))]
        placed = [
            replace(spec, key=key, seed=sample_seed(config.seed, key))
            for spec, key in zip(in_shard, keys, strict=True)
        ]
        # the pictures of a batch are of one size
        alike = (tuple(group) for _, group in groupby(placed, _label_size))
        batches = tuple(
            tuple(batch) for group in alike for batch in _parts(group, config.batch_size)
        )
        tasks.append(ShardTask(shard_index=shard_index, batches=batches))
    return tuple(tasks)


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _label_size(spec: SampleSpec) -> tuple[int, int] | None:
    picture = spec.picture
    return None if picture is None else (picture.label_height, picture.label_width)


def _identity(prompt: str, class_ids: Iterable[int]) -> int:
    ids = ",".join(map(str, sorted(class_ids)))
    digest = hashlib.blake2b(f"{ids}:{prompt.lower()}".encode(), digest_size=16)
    return int.from_bytes(digest.digest(), "big")
