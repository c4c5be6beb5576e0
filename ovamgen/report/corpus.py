"""What a corpus is before any sample is read: its plan, its run file, its finished shards.

Nothing is locked and nothing is changed: a corpus that is still being made can be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ovamgen.classes.class_set import ClassSet
from ovamgen.corpus.open import classes_of, run_info_of
from ovamgen.errors import ConfigError, PlanError, ShardError
from ovamgen.plan.planning import Plan
from ovamgen.records import ShardRecord
from ovamgen.run.files import read_plan, read_run_file
from ovamgen.shards.output_files import (
    PLAN_NAME,
    SELECTION_NAME,
    metadata_name,
    record_name,
)
from ovamgen.shards.shard_record import read_records
from ovamgen.status.logs import ProcessTimes, read_times
from ovamgen.storage.interface import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """An output folder as it is now."""

    store: Store
    plan: Plan | None
    """None for shards without their plan, such as a copy of the tars and metadata alone."""
    run: dict[str, Any]
    """What ``run.yaml`` holds; empty where no shard was ever begun."""
    classes: ClassSet
    """What the masks are of."""
    records: tuple[ShardRecord, ...]
    """Records of the finished shards, by ascending index."""
    times: tuple[ProcessTimes, ...] = ()
    """What the processes of its runs wrote of themselves."""
    illegible_times: int = 0

    @property
    def name(self) -> str:
        """The last part of where it is: a page about it says no more of the machine."""
        return PurePosixPath(self.store.url).name or "corpus"

    @property
    def missing(self) -> tuple[int, ...]:
        """Indices of planned shards that are not finished."""
        done = {record.shard_index for record in self.records}
        planned = range(len(self.plan.tasks) if self.plan else 0)
        return tuple(index for index in planned if index not in done)

    @property
    def state(self) -> str:
        """``planned``, ``partial`` or ``complete``; ``shards only`` where there is no plan."""
        if self.plan is None:
            return "shards only"
        if not self.records:
            return "planned"
        return "partial" if self.missing else "complete"

    @property
    def size_bytes(self) -> int:
        """Bytes of all finished tars."""
        return sum(record.size_bytes for record in self.records)


def read_corpus(store: Store) -> Corpus:
    """The corpus in a store.

    Raises:
        ConfigError: there is neither a plan nor a finished shard, or ``run.yaml`` is damaged.
        PlanError: the plan is damaged.
        ShardError: a shard's record or the manifest is damaged, or files are not of the recorded
            sizes.
    """
    try:
        plan = read_plan(store)
    except PlanError as error:
        raise PlanError(f"{store.url}/{PLAN_NAME}: {error}") from None
    found = read_records(store)
    records = tuple(found[index] for index in sorted(found))
    if plan is None and not records:
        expected = "the --out of 'ovamgen plan' or 'ovamgen generate'"
        if store.exists(SELECTION_NAME):
            expected = "a corpus, got a view of one: name its source, or make shards of it with "
            expected += "'ovamgen select --copy'"
        raise ConfigError(
            f"{store.url} holds no {PLAN_NAME} and no finished shard: expected {expected}"
        )
    _check_sizes(store, records)
    # a copy of the shards has a manifest alone, a plan of which none was begun has neither
    info = run_info_of(store)
    classes = plan.classes if plan and not info else classes_of(info, store.url)
    times, illegible = read_times(store)
    return Corpus(
        store=store,
        plan=plan,
        run=read_run_file(store) or {},
        classes=classes,
        records=records,
        times=tuple(times),
        illegible_times=illegible,
    )


def _check_sizes(store: Store, records: Iterable[ShardRecord]) -> None:
    sizes = store.sizes()
    for record in records:
        expected = {
            record.name: record.size_bytes,
            metadata_name(record.shard_index): record.metadata_size_bytes,
        }
        for name, size in expected.items():
            if sizes.get(name) != size:
                found = f"has {sizes[name]:,}" if name in sizes else "is not there"
                raise ShardError(
                    f"{store.url}/{name} must have {size:,} bytes by "
                    f"{record_name(record.shard_index)}, and {found}: 'ovamgen generate' with the "
                    "run's configuration makes the shard again"
                )
