"""A run on its output folder: what is asked, what is planned, what is done, what is left.

Everything that can be found out without loading a model is found out here, before anything is
written; which process then makes the shards is not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ovamgen import __version__, fault_points
from ovamgen.config import RunConfig, fingerprint, identity
from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.plan.plan_rows import PlannedTasks
from ovamgen.plan.planning import Plan
from ovamgen.records import ModelInfo, RunSummary, ShardRecord
from ovamgen.run.bad_samples import EarlyStop
from ovamgen.run.files import (
    differences,
    give_way,
    has_made_shards,
    library_versions,
    read_plan,
    read_run_file,
    run_file_bytes,
    write_plan_file,
)
from ovamgen.run.inputs import check_inputs, inputs_of, named_inputs, plan_for, settings_of_plan
from ovamgen.run.journal import RunJournal
from ovamgen.shards.card import DOCUMENTS_EDITION
from ovamgen.shards.manifest import write_indexes
from ovamgen.shards.output_files import PLAN_NAME, RECORDS, RUN_NAME, record_name
from ovamgen.shards.shard_record import finished_shards, read_record
from ovamgen.storage.store import Store, open_store
from ovamgen.storage.urls import without_query

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Run:
    """A run whose output is locked: the plan, and which of its shards are done."""

    config: RunConfig
    store: Store
    plan: Plan
    inputs: dict[str, str]
    fingerprint: str
    records: dict[int, ShardRecord]
    """The finished shards by index; grows while the run goes on."""
    made_now: list[int] = field(default_factory=list)
    """Indices of the shards that this process had made."""
    journal: RunJournal = field(default_factory=RunJournal)
    """What this process is doing, and what took how long."""
    confirmed: dict[str, str] | None = None
    """Digests of the pipeline that was compared last: a thousand workers hold the same one."""
    replaced: list[str] = field(default_factory=list)
    """In what the configuration that began the output differs, where it gives way to this one."""
    written: list[str] = field(default_factory=list)
    """Names of the plan and ``run.yaml``, where this process wrote them."""

    @property
    def pending(self) -> PlannedTasks:
        """The shards that are still to be made now, in order; each is read when it is taken."""
        return self.plan.tasks.without(self.records)

    @property
    def total_samples(self) -> int:
        """Samples of the whole plan."""
        return self.plan.samples

    def early_stop(self) -> EarlyStop:
        """The watch over the samples that this process is about to have made."""
        return EarlyStop(
            made_before=self.summary().samples,
            largest_shard=int(self.pending.sizes.max(initial=1)),
        )

    def confirm_model(self, info: ModelInfo, tokens_digest: str) -> None:
        """Writes the plan and ``run.yaml``, or compares a pipeline with the one of the run so far.

        Nothing is written before a pipeline is loaded: what fails until then leaves no trace.

        Raises:
            ConfigError: other weights or token rows than those of the shards that are there.
        """
        now = {"weights_sha256": info.digest, "tokens_sha256": tokens_digest}
        if now == self.confirmed:
            return
        saved = read_run_file(self.store)
        changed = differences(saved["model"], now) if saved and not self.replaced else []
        if changed and (self.confirmed or has_made_shards(self.store)):
            raise ConfigError(
                f"{self.store.url} was begun with another model: {'; '.join(changed)}; "
                "give that model, or another --out"
            )
        if self.replaced or changed:
            give_way(self.store, self.replaced or changed)
        if self.replaced or not self.store.exists(PLAN_NAME):
            write_plan_file(self.store, self.plan)
            self.written.append(PLAN_NAME)
        if self.replaced or changed or saved is None:
            fault_points.reach("run.plan_put")
            self.store.put(RUN_NAME, self._run_file(info, now))
            self.written.append(RUN_NAME)
            fault_points.reach("run.run_file_put")
        self.confirmed, self.replaced = now, []

    def take_back(self) -> None:
        """Removes what this process wrote of a configuration that could not make one sample."""
        totals = self.journal.totals()
        if self.records or totals.made or totals.failed:
            return
        while self.written:
            self.store.delete(self.written.pop())

    def finished(self, record: ShardRecord) -> None:
        """Take note of a shard that was just published."""
        self.records[record.shard_index] = record
        self.made_now.append(record.shard_index)

    def write_indexes(self) -> None:
        """The files that describe the whole corpus; only where every shard is there.

        Raises:
            ShardError: the store failed, or does not have what it said that it took.
        """
        self._read_back()
        records = [self.records[index] for index in range(len(self.plan.tasks))]
        saved = read_run_file(self.store) or {}
        write_indexes(self.store, records, saved)

    def _read_back(self) -> None:
        """Checks that the store kept the records of shards made now, and the last one whole.

        One listing and one small read, whatever the number of shards: a store may answer well and
        keep nothing.
        """
        if not self.made_now:
            return
        there = self.store.sizes(RECORDS)
        lost = [record_name(i) for i in self.made_now if record_name(i) not in there]
        last = self.made_now[-1]
        if not lost and read_record(self.store, last) != self.records[last]:
            lost = [record_name(last)]
        if lost:
            raise ShardError(
                f"{self.store.url} took {lost[0]} without an error and does not have it as it was "
                f"written ({len(lost)} of {len(self.made_now)} records made now): see to the "
                "store, then run again; the shard is made again"
            )

    def summary(self, failures_by_reason: dict[str, int] | None = None) -> RunSummary:
        """Counts over all finished shards."""
        return RunSummary(
            out=self.store.url,
            shards=len(self.records),
            samples=sum(record.samples for record in self.records.values()),
            failed=sum(record.failed for record in self.records.values()),
            shards_made_now=len(self.made_now),
            failures_by_reason=failures_by_reason or {},
        )

    def _run_file(self, info: ModelInfo, digests: dict[str, str]) -> bytes:
        data = {
            "ovamgen_version": __version__,
            "documents_edition": DOCUMENTS_EDITION,
            "fingerprint": self.fingerprint,
            "identity": identity(self.config, self.inputs),
            # how fast and where is no property of the corpus, and changes from resume to resume
            "config": _written_down(
                self.config.model_dump(mode="json", exclude={"out", "runtime"})
            ),
            "inputs": self.inputs,
            "model": {
                **digests,
                "id": info.model,
                "revision": info.revision,
                "trained": info.trained,
                "context_width": info.context_width,
                "cross_attention_layers": info.cross_attention_layers,
            },
            "versions": library_versions(),
        }
        return run_file_bytes(data)


@contextmanager
def open_run(config: RunConfig) -> Iterator[Run]:
    """The run of a configuration, with its output locked while the block lasts.

    The plan is made if none is there; `Run.confirm_model` writes it.

    Raises:
        ConfigError: the output, the model or the tokens do not fit, nor does the configuration
            that has made shards there; two runs on one output.
        PlanError: the captions cannot be planned.
    """
    if not config.out:
        raise ConfigError("no output was given: use --out FOLDER or --out URL")
    store = open_store(config.out)
    config = check_inputs(config)
    plan = read_plan(store)
    replaced: list[str] = []
    if plan is not None:
        replaced = plan.differences(
            settings_of_plan(config), named_inputs(config, plan), config.classes
        )
        _refuse_another(store, replaced, may_replace=bool(config.plan.captions))
    if plan is None or replaced:
        plan = plan_for(config)
    if not plan.tasks:
        raise ConfigError(
            f"no caption of {config.plan.captions} becomes a sample: see 'ovamgen plan' for why"
        )
    inputs = inputs_of(config, plan)
    mark = fingerprint(config, inputs)
    saved = read_run_file(store)
    if saved is not None and saved["fingerprint"] != mark:
        replaced = replaced or differences(saved["identity"], identity(config, inputs))
        _refuse_another(store, replaced)
    elif saved is not None:
        _warn_of_other_versions(saved)
    with store.lock():
        # another run may have ended since
        _refuse_another(store, replaced)
        store.sweep()
        records = finished_shards(store, config.shards.split, range(len(plan.tasks)), mark)
        run = Run(
            config=config,
            store=store,
            plan=plan,
            inputs=inputs,
            fingerprint=mark,
            records=records,
            replaced=replaced,
        )
        try:
            yield run
        except ConfigError:
            # what cannot be made must not stand in the way of the corrected command
            with suppress(OvamgenError):
                run.take_back()
            raise
        finally:
            store.sweep()


def _written_down(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the queries of the URLs that it names."""
    for section, name in (
        ("plan", "captions"),
        ("plan", "instances"),
        ("attribution", "tokens"),
        ("attribution", "head"),
    ):
        if url := config[section].get(name):
            config[section][name] = without_query(url)
    return config


def _refuse_another(store: Store, changed: list[str], *, may_replace: bool = True) -> None:
    """Checks that no other configuration has made a shard there.

    Args:
        store: of the run.
        changed: in what the configuration there differs, if it does.
        may_replace: there is another plan to put in its place.

    Raises:
        ConfigError: names what differs.
    """
    if changed and (not may_replace or has_made_shards(store)):
        raise ConfigError(
            f"{store.url} belongs to another configuration ({'; '.join(changed)}): "
            "give that configuration to go on with it, or another --out"
        )


def _warn_of_other_versions(saved: dict[str, Any]) -> None:
    changed = differences(saved.get("versions", {}), library_versions())
    if changed:
        log.warning(
            "the shards that are there were made with other versions (%s): new shards may differ "
            "from them in the last bits",
            "; ".join(changed),
        )


def write_plan(config: RunConfig) -> Plan:
    """The plan of a configuration, written to its output.

    Raises:
        ConfigError: no output was given, or shards of another plan.
        PlanError: the captions cannot be planned.
    """
    if not config.out:
        raise ConfigError("no output was given: use --out FOLDER or --out URL")
    store = open_store(config.out)
    plan = plan_for(config)
    saved = read_plan(store)
    changed = saved.differences(plan.settings, plan.inputs, plan.classes) if saved else []
    _refuse_another(store, changed)
    if saved is not None and not changed:
        return plan
    with store.lock():
        _refuse_another(store, changed)
        if changed:
            give_way(store, changed)
        write_plan_file(store, plan)
    return plan
