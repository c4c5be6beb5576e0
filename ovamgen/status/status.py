"""How far an output folder is: what was planned, what is there, what failed and why.

Asked from anywhere that can read the folder: what the run is doing now comes from its own log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ovamgen.console.log_format import printable
from ovamgen.console.progress import time_left
from ovamgen.errors import ConfigError
from ovamgen.records import ShardRecord
from ovamgen.run.files import read_plan, read_run_files
from ovamgen.run.retries import superseded
from ovamgen.shards.finished_shard import read_metadata
from ovamgen.shards.output_files import (
    EXPORT_NAME,
    INDEXES,
    MANIFEST_NAME,
    PLAN_NAME,
    RECORDS,
    SELECTION_NAME,
)
from ovamgen.shards.shard_record import read_each
from ovamgen.status.activity import Activity, stragglers_of, understand
from ovamgen.status.logs import LiveProgress, read_progress
from ovamgen.storage.interface import Store
from ovamgen.storage.store import open_store

_HANDED_ON = {SELECTION_NAME: "a selection", EXPORT_NAME: "an export"}
"""What a folder of shards without a plan is, by the mark that select or export leaves."""


class NotBegunError(ConfigError):
    """The output holds no plan; it may not even be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """The state of an output folder; counts are of samples unless they say otherwise."""

    out: str
    state: Literal["planned", "partial", "complete"]
    running: bool
    """A process holds the output's lock."""
    activity: Activity
    """What the latest run is doing, or how it ended."""
    shards_planned: int
    shards_done: int
    samples_planned: int
    samples_made: int
    samples_failed: int
    bytes_written: int
    failures: dict[str, int] = field(default_factory=dict)
    """Failed samples by ``stage: reason``, the most frequent first; without those tried again."""
    tried_again: int = 0
    """Failed samples that there is a later attempt at."""
    generations: int = 1
    """1, and one for each time that the corpus was extended or failed samples were tried again."""
    handed_on: str = ""
    """``a selection`` or ``an export``: finished shards of a run, without its plan."""
    model: str = ""
    fingerprint: str = ""
    process: str = ""
    """The run that is going on, or that went on last."""
    heard_seconds_ago: float | None = None
    """Since it last wrote its log, by the clocks of two machines; None where they disagree."""
    error: str = ""
    """Why the latest run ended early, as it told."""
    samples_in_open_shards: int = 0
    """Made or failed, in shards that are not written yet."""
    images_per_second: float | None = None
    seconds_left: float | None = None
    workers_ready: int = 0
    workers_wanted: int = 0
    worker_restarts: int = 0
    shard_restarts: int = 0
    stragglers: tuple[str, ...] = ()
    """Shards open for much longer than others, workers that have not answered for long."""

    def lines(self) -> list[str]:
        """As text for people."""
        ended = self.samples_made + self.samples_failed
        text = [
            f"{self.out}: {self.handed_on + ', ' if self.handed_on else ''}{self.state}"
            f"{', a run is going on' if self.running else ''}",
            f"  shards   {self.shards_done} of {self.shards_planned}",
            f"  samples  {self.samples_made} made, {self.samples_failed} failed, "
            f"{self.samples_planned} planned ({_percent(ended, self.samples_planned)})",
            f"  size     {self.bytes_written / 1e6:.1f} MB",
        ]
        if self.tried_again:
            text.append(f"  retried  {self.tried_again} of the failed samples were tried again")
        if self.generations > 1:
            text.append(f"  made in  {self.generations} generations")
        if self.model:
            text.append(f"  model    {self.model}")
        text += [f"  run      {line}" for line in self._run_lines()]
        text += [f"  slow     {line}" for line in self.stragglers]
        text += [f"  failed   {count} x {reason}" for reason, count in self.failures.items()]
        if self.state != "complete" and not self.running:
            text.append("  the command that began this run goes on with it")
        return [printable(line) for line in text]

    def line(self) -> str:
        """The same in one line, for logs."""
        failed = f", {self.samples_failed} failed" if self.samples_failed else ""
        rate = f", {self.images_per_second:.2f} images/s" if self.images_per_second else ""
        left = "" if self.seconds_left is None else f", {time_left(self.seconds_left)}"
        slow = f", {len(self.stragglers)} slow" if self.stragglers else ""
        what = self.state if self.activity == "none" else self.activity
        return (
            f"{what}: {self.shards_done} of {self.shards_planned} shards, "
            f"{self.samples_made + self.samples_failed + self.samples_in_open_shards}/"
            f"{self.samples_planned} samples{failed}{rate}{left}{slow}"
        )

    def _run_lines(self) -> list[str]:
        heard = self.heard_seconds_ago
        last = "" if heard is None else f", last heard of {_ago(heard)}"
        who = self.process or "it"
        match self.activity:
            case "running" | "silent":
                restarts = self.worker_restarts + self.shard_restarts
                again = f", {restarts} restarts" if restarts else ""
                speed = f"{self.images_per_second or 0.0:.2f} images/s"
                left = "" if self.seconds_left is None else f", {time_left(self.seconds_left)}"
                workers = f"{self.workers_ready} of {self.workers_wanted} workers ready"
                found = [
                    f"{who}: {workers}, {self.samples_in_open_shards} samples in open shards"
                    f"{again}",
                    f"{speed}{left}",
                ]
                if self.activity == "silent":
                    found.append(f"it holds the output but is silent{last}: see to its machine")
                return found
            case "loading":
                return [f"{who}: no worker is ready yet"]
            case "dead":
                return [f"{who} has died{last}; what it published is whole"]
            case "stopped" | "failed":
                return [f"{who} {self.activity}{last}" + (f": {self.error}" if self.error else "")]
            case _:
                return []


class StatusReader:
    """Reads the status of one output, again and again; what cannot change is read once."""

    def __init__(self, url: str) -> None:
        """Prepares a look at the output; nothing is read yet.

        Raises:
            ConfigError: the URL names no store.
        """
        self.store = open_store(url)
        self._url = url
        self._planned: tuple[tuple[int, str], tuple[int, int]] | None = None
        self._records: dict[tuple[str, int], ShardRecord] = {}
        self._failures: dict[int, Counter[tuple[str, str]]] = {}
        self._tried_again: frozenset[str] = frozenset()

    def read(self) -> RunStatus:
        """The status now.

        Raises:
            NotBegunError: there is no plan, so no run was ever begun there.
            ConfigError: ``run.yaml`` is damaged.
            ShardError: the store fails, or a record is damaged.
        """
        store = self.store
        # before the records: a run that ends while they are read must not look dead
        holder, live = store.holder(), read_progress(store)
        runs = read_run_files(store)
        saved = runs[-1] if runs else None
        mark = saved["fingerprint"] if saved else ""
        shards, samples = self._plan(mark, live, is_held=holder is not None)
        records = self._read_records()
        state: Literal["planned", "partial", "complete"] = "partial"
        # the indexes come last: who was stopped before them has something left to do
        if shards and len(records) == shards and all(map(store.exists, INDEXES)):
            state = "complete"
        elif saved is None:
            state = "planned"
        found = understand(holder, live, is_complete=state == "complete")
        tried_again = superseded(store, records, runs)
        if tried_again != self._tried_again:
            self._tried_again, self._failures = tried_again, {}
        return RunStatus(
            out=store.url,
            handed_on=self._handed_on(),
            state=state,
            running=holder is not None,
            activity=found.activity,
            shards_planned=shards,
            shards_done=len(records),
            samples_planned=samples,
            samples_made=sum(record.samples for record in records.values()),
            samples_failed=sum(record.failed for record in records.values()),
            bytes_written=sum(record.size_bytes for record in records.values()),
            failures=in_words(
                failures_by_reason(store, records, self._failures, without=tried_again)
            ),
            tried_again=len(tried_again),
            generations=max(1, len(runs)),
            model=saved["model"].get("id", "") if saved else "",
            fingerprint=mark,
            process=found.process,
            heard_seconds_ago=found.heard_seconds_ago,
            error=live.error if live and found.activity in ("stopped", "failed") else "",
            **_live_fields(live if found.is_current else None, records),
        )

    def _plan(
        self, fingerprint: str, live: LiveProgress | None, *, is_held: bool
    ) -> tuple[int, int]:
        """Shards and samples of the plan; a run that loads has none yet.

        It is read again where another was put in its place, as may be until a shard is made.
        """
        mark = self.store.size(PLAN_NAME) or 0, fingerprint
        if self._planned is not None and self._planned[0] == mark:
            return self._planned[1]
        plan = read_plan(self.store)
        if plan is not None:
            self._planned = mark, (len(plan.tasks), plan.samples)
            return self._planned[1]
        if is_held:
            return 0, 0
        if self._handed_on():
            found = self._read_records().values()
            return len(found), sum(record.samples + record.failed for record in found)
        failed = f"; the last run there failed: {live.error}" if live and live.error else ""
        raise NotBegunError(
            f"{self._url} holds no {PLAN_NAME}: expected the --out of 'ovamgen plan' or 'generate'"
            f"{failed}"
        )

    def _handed_on(self) -> str:
        """What the output is where no run of its own made its shards, else ""."""
        if not self.store.exists(MANIFEST_NAME):
            return ""
        found = (what for name, what in _HANDED_ON.items() if self.store.exists(name))
        return next(found, "")

    def _read_records(self) -> dict[int, ShardRecord]:
        names = self.store.sizes(RECORDS)
        new = [item for item in names.items() if item not in self._records]
        read = read_each(self.store, [name for name, _ in new])
        self._records |= dict(zip(new, read, strict=True))
        found = [self._records[item] for item in names.items()]
        return {record.shard_index: record for record in found}


def run_status(url: str) -> RunStatus:
    """The status of an output folder or URL.

    Raises:
        ConfigError: there is no plan, so no run was ever begun there.
    """
    return StatusReader(url).read()


def failures_by_reason(
    store: Store,
    records: Mapping[int, ShardRecord],
    known: dict[int, Counter[tuple[str, str]]] | None = None,
    *,
    without: frozenset[str] = frozenset(),
) -> Counter[tuple[str, str]]:
    """Failed samples by stage and reason; only metadata of shards with failures is read.

    Args:
        store: of the run.
        records: of the finished shards.
        known: counts by shard that were read before; grows.
        without: keys of failed samples that do not count, the same in every call with ``known``.
    """
    known = {} if known is None else known
    counts: Counter[tuple[str, str]] = Counter()
    for index, record in sorted(records.items()):
        if record.failed:
            if index not in known:
                known[index] = _failures_of(store, record, without)
            counts += known[index]
    return counts


def in_words(failures: Counter[tuple[str, str]]) -> dict[str, int]:
    """The counts by ``stage: reason``, the most frequent first."""
    return {f"{stage}: {reason}": count for (stage, reason), count in failures.most_common()}


def _failures_of(
    store: Store, record: ShardRecord, without: frozenset[str]
) -> Counter[tuple[str, str]]:
    rows = read_metadata(store, record, ["key", "status", "stage", "reason"]).to_pylist()
    failed = (row for row in rows if row["status"] == "failed" and row["key"] not in without)
    return Counter((row["stage"], row["reason"]) for row in failed)


def _live_fields(live: LiveProgress | None, records: Mapping[int, ShardRecord]) -> dict[str, Any]:
    """What a run that goes on tells; shards that were written since are no longer open."""
    if live is None:
        return {}
    still_open = [shard for shard in live.shards_open if shard.shard not in records]
    return {
        "samples_in_open_shards": sum(shard.ended for shard in still_open),
        "images_per_second": live.images_per_second,
        "seconds_left": live.seconds_left,
        "workers_ready": len(live.workers),
        "workers_wanted": live.workers_wanted,
        "worker_restarts": live.worker_restarts,
        "shard_restarts": live.shard_restarts,
        "stragglers": stragglers_of(live, still_open),
    }


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def _ago(seconds: float) -> str:
    return f"{time_left(seconds).removesuffix(' left')} ago"
