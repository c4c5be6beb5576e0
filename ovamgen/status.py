"""How far an output folder is: what was planned, what is there, what failed and why."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow.parquet as pq

from ovamgen.errors import ConfigError, ShardError
from ovamgen.records import ShardRecord
from ovamgen.run_files import PLAN_NAME, read_plan, read_run_file
from ovamgen.shards.manifest import metadata_name, read_records
from ovamgen.shards.store import Store, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """The state of an output folder; counts are of samples unless they say otherwise."""

    out: str
    state: Literal["planned", "partial", "complete"]
    running: bool
    """A process holds the output's lock."""
    shards_planned: int
    shards_done: int
    samples_planned: int
    samples_made: int
    samples_failed: int
    bytes_written: int
    failures: dict[str, int] = field(default_factory=dict)
    """Failed samples by ``stage: reason``, the most frequent first."""
    model: str = ""
    fingerprint: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """As text for people."""
        text = [
            f"{self.out}: {self.state}{', a run is going on' if self.running else ''}",
            f"  shards   {self.shards_done} of {self.shards_planned}",
            f"  samples  {self.samples_made} made, {self.samples_failed} failed, "
            f"{self.samples_planned} planned",
            f"  size     {self.bytes_written / 1e6:.1f} MB",
        ]
        if self.model:
            text.append(f"  model    {self.model}")
        text += [f"  failed   {count} x {reason}" for reason, count in self.failures.items()]
        if self.state != "complete" and not self.running:
            text.append("  the command that began this run goes on with it")
        return text


def run_status(url: str) -> RunStatus:
    """The status of an output folder or URL.

    Raises:
        ConfigError: there is no plan, so no run was ever begun there.
    """
    store = open_store(url)
    plan = read_plan(store)
    if plan is None:
        raise ConfigError(
            f"{url} holds no {PLAN_NAME}: expected the --out of 'ovamgen plan' or 'generate'"
        )
    saved = read_run_file(store)
    records = read_records(store)
    done = len(records)
    state: Literal["planned", "partial", "complete"] = "partial"
    if done == len(plan.tasks):
        state = "complete"
    elif saved is None:
        state = "planned"
    return RunStatus(
        out=store.url,
        state=state,
        running=store.holder() is not None,
        shards_planned=len(plan.tasks),
        shards_done=done,
        samples_planned=sum(len(task.specs) for task in plan.tasks),
        samples_made=sum(record.samples for record in records.values()),
        samples_failed=sum(record.failed for record in records.values()),
        bytes_written=sum(record.size_bytes for record in records.values()),
        failures=failures_by_reason(store, records),
        model=saved["model"].get("id", "") if saved else "",
        fingerprint=saved["fingerprint"] if saved else "",
    )


def failures_by_reason(store: Store, records: dict[int, ShardRecord]) -> dict[str, int]:
    """Failed samples by ``stage: reason``; only metadata of shards with failures is read."""
    counts: Counter[str] = Counter()
    for index, record in sorted(records.items()):
        if not record.failed:
            continue
        try:
            data = io.BytesIO(store.read(metadata_name(index)))
            table = pq.read_table(data, columns=["status", "stage", "reason"])
        except (OSError, ValueError) as error:
            raise ShardError(
                f"{store.url}/{metadata_name(index)} cannot be read as Parquet: {error}"
            ) from None
        for row in table.to_pylist():
            if row["status"] == "failed":
                counts[f"{row['stage']}: {row['reason']}"] += 1
    return dict(counts.most_common())
