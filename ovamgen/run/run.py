"""A run on its output folder: what is asked, what is planned, what is done, what is left.

Everything that can be found out without loading a model is found out here, before anything is
written; which process then makes the shards is not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ovamgen import __version__, fault_points
from ovamgen.config import RunConfig
from ovamgen.errors import ConfigError, OvamgenError, ShardError
from ovamgen.plan.plan_rows import PlannedTasks
from ovamgen.plan.planning import Plan
from ovamgen.records import ModelInfo, RunSummary, ShardRecord
from ovamgen.run.asked import Asked, asked_for_retries, asked_of, refuse_another
from ovamgen.run.bad_samples import EarlyStop
from ovamgen.run.files import (
    PLANNED,
    differences,
    give_way,
    has_made_shards,
    library_versions,
    read_plan,
    read_run_files,
    run_file_bytes,
    saved_config,
    take_generation_back,
    write_plan_file,
    written_down,
)
from ovamgen.run.generations import Generation, fingerprints_of
from ovamgen.run.inputs import check_inputs, plan_for
from ovamgen.run.journal import RunJournal
from ovamgen.shards.card import DOCUMENTS_EDITION
from ovamgen.shards.manifest import write_indexes
from ovamgen.shards.output_files import INDEXES, RECORDS, plan_name, record_name, run_name
from ovamgen.shards.shard_record import finished_shards, read_record
from ovamgen.storage.store import Store, open_store

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Run:
    """A run whose output is locked: the plan, and which of its shards are done.

    It is about one generation of the output; `earlier` are those that are not whole.
    """

    config: RunConfig
    store: Store
    plan: Plan
    """Plan of all generations."""
    inputs: dict[str, str]
    fingerprint: str
    identity: dict[str, Any]
    """What the fingerprint is made of."""
    records: dict[int, ShardRecord]
    """The finished shards of all generations by index; grows while the run goes on."""
    before: tuple[dict[str, Any], ...] = ()
    """``run.yaml`` of the generations before this one."""
    made_now: list[int] = field(default_factory=list)
    """Indices of the shards that this process had made."""
    journal: RunJournal = field(default_factory=RunJournal)
    """What this process is doing, and what took how long."""
    confirmed: dict[str, str] | None = None
    """Digests of the pipeline that was compared last: a thousand workers hold the same one."""
    replaced: list[str] = field(default_factory=list)
    """In what the configuration that began the output differs, where it gives way to this one."""
    gives_way: int = 0
    """Number of an extension that made nothing and gives way to this run; 0 for none."""
    written: list[str] = field(default_factory=list)
    """Names of the plan and ``run.yaml``, where this process wrote them."""
    earlier: tuple[Run, ...] = ()
    """Runs of the generations before this one, which share its records and its journal."""

    @property
    def number(self) -> int:
        """Number of the generation, from 0."""
        return len(self.before)

    @property
    def tasks(self) -> PlannedTasks:
        """The shards of this generation."""
        return self.plan.generations[self.number].tasks

    @property
    def pending(self) -> PlannedTasks:
        """The shards of this generation that are still to be made now, in order.

        Each is read when it is taken.
        """
        return self.tasks.without(self.records)

    @property
    def shards_left(self) -> int:
        """Shards of all generations that are still to be made."""
        return len(self.plan.tasks) - len(self.records)

    @property
    def with_work(self) -> list[Run]:
        """The runs of the generations that have shards to make, in their order."""
        return [run for run in (*self.earlier, self) if run.pending]

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
        if self.gives_way:
            take_generation_back(self.store, self.gives_way)
            self.gives_way = 0
        runs = read_run_files(self.store)
        saved = runs[self.number] if len(runs) > self.number else None
        known = saved or (self.before[-1] if self.before else None)
        changed = differences(known["model"], now) if known and not self.replaced else []
        if changed and (self.before or self.confirmed or has_made_shards(self.store)):
            raise ConfigError(
                f"{self.store.url} was begun with another model: {'; '.join(changed)}; "
                "give that model, or another --out"
            )
        if self.replaced or changed:
            give_way(self.store, self.replaced or changed)
        of_plan, of_run = plan_name(self.number), run_name(self.number)
        is_new = bool(self.number) and saved is None
        if self.replaced or is_new or not self.store.exists(of_plan):
            write_plan_file(self.store, self.plan.generations[self.number], self.number)
            self.written.append(of_plan)
        if self.replaced or changed or saved is None:
            fault_points.reach("run.plan_put")
            if self.number:
                # a corpus that is extended is unfinished, and says so before there is more of it
                for name in INDEXES:
                    self.store.delete(name)
                fault_points.reach("run.indexes_removed")
            self.store.put(of_run, self._run_file(info, now))
            self.written.append(of_run)
            fault_points.reach("run.run_file_put")
        self.confirmed, self.replaced = now, []

    def take_back(self) -> None:
        """Removes what this process wrote of a configuration that could not make one sample."""
        totals = self.journal.totals()
        if self.made_now or totals.made or totals.failed:
            return
        if any(index in self.records for index in self.tasks.indices):
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
        if self.gives_way:
            take_generation_back(self.store, self.gives_way)
        self._read_back()
        records = [self.records[index] for index in range(len(self.plan.tasks))]
        saved = read_run_files(self.store)
        write_indexes(self.store, records, saved[-1] if saved else {}, saved)

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

    def summary(
        self, failures_by_reason: dict[str, int] | None = None, tried_again: int = 0
    ) -> RunSummary:
        """Counts over all finished shards."""
        return RunSummary(
            out=self.store.url,
            shards=len(self.records),
            samples=sum(record.samples for record in self.records.values()),
            failed=sum(record.failed for record in self.records.values()),
            shards_made_now=len(self.made_now),
            failures_by_reason=failures_by_reason or {},
            tried_again=tried_again,
        )

    def _run_file(self, info: ModelInfo, digests: dict[str, str]) -> bytes:
        data = {
            "ovamgen_version": __version__,
            "documents_edition": DOCUMENTS_EDITION,
            "fingerprint": self.fingerprint,
            "identity": self.identity,
            "config": written_down(self.config),
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
            **self._generation.to_run_info(),
        }
        return run_file_bytes(data)

    @property
    def _generation(self) -> Generation:
        before = fingerprints_of(self.before[-1]) if self.before else ()
        return Generation.of_plan(self.plan.generations[self.number], before)


@contextmanager
def open_run(
    config: RunConfig, *, extend: bool = False, retries: Plan | None = None
) -> Iterator[Run]:
    """The run of a configuration, with its output locked while the block lasts.

    The plan is made if none is there; `Run.confirm_model` writes it.

    Args:
        config: resolved.
        extend: add what the configuration asks for and is not there to the corpus of another one.
        retries: add what this plan asks for, to the finished corpus of the same configuration.

    Raises:
        ConfigError: the output, the model or the tokens do not fit, nor does the configuration
            that has made shards there; two runs on one output; nothing to extend, or to add.
        PlanError: the captions cannot be planned.
    """
    if not config.out:
        raise ConfigError("no output was given: use --out FOLDER or --out URL")
    store = open_store(config.out)
    config = check_inputs(config)
    if retries is None:
        asked = asked_of(store, config, extend=extend)
    else:
        asked = asked_for_retries(store, config, retries)
    if not asked.plan.tasks:
        raise ConfigError(
            f"no caption of {config.plan.captions} becomes a sample: see 'ovamgen plan' for why"
        )
    replaced, saved = asked.replaced, asked.saved
    if saved is not None and saved["fingerprint"] != asked.fingerprint:
        replaced = replaced or differences(saved["identity"], asked.identity)
        refuse_another(store, replaced)
    elif latest := saved or (asked.earlier[-1] if asked.earlier else None):
        _warn_of_other_versions(latest)
    with store.lock():
        # another run may have ended since
        refuse_another(store, replaced)
        _refuse_another_extension(store, asked)
        store.sweep()
        run = _locked(config, store, asked, replaced)
        try:
            yield run
        except ConfigError:
            # what cannot be made must not stand in the way of the corrected command
            with suppress(OvamgenError):
                run.take_back()
            raise
        finally:
            store.sweep()


def _locked(config: RunConfig, store: Store, asked: Asked, replaced: list[str]) -> Run:
    """The run, with the records of the shards that are whole."""
    generations = asked.plan.generations
    marks = [str(info["fingerprint"]) for info in asked.earlier] + [asked.fingerprint]
    records: dict[int, ShardRecord] = {}
    for own, mark in zip(generations, marks, strict=False):
        records |= finished_shards(store, config.shards.split, own.tasks.indices, mark)
    run = Run(
        config=config,
        store=store,
        plan=asked.plan,
        inputs=asked.inputs,
        fingerprint=asked.fingerprint,
        identity=asked.identity,
        records=records,
        before=asked.earlier,
        replaced=replaced,
        gives_way=asked.gives_way,
    )
    where: dict[str, Any] = {
        "runtime": config.runtime.model_dump(),
        "model": {"device": config.model.device},
    }
    if config.label.pictures:
        where["label"] = {"pictures": config.label.pictures}
    run.earlier = tuple(
        replace(
            run,
            config=saved_config(info, config.out, where, PLANNED),
            inputs=info["inputs"],
            fingerprint=info["fingerprint"],
            identity=info["identity"],
            before=asked.earlier[:number],
            gives_way=0,
        )
        for number, info in enumerate(asked.earlier)
    )
    return run


def _refuse_another_extension(store: Store, asked: Asked) -> None:
    there = len(read_run_files(store)) if asked.earlier else 0
    if asked.saved is None and there > asked.number and not asked.gives_way:
        raise ConfigError(f"{store.url} was extended meanwhile: give the command again")


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
    refuse_another(store, changed)
    if saved is not None and not changed:
        return plan
    with store.lock():
        refuse_another(store, changed)
        if changed:
            give_way(store, changed)
        write_plan_file(store, plan)
    return plan


def plan_of_extension(config: RunConfig) -> Plan:
    """The plan of what an extension by a configuration adds, or goes on with; nothing is written.

    Raises:
        ConfigError: no output was given, or as for `open_run`.
        PlanError: the captions cannot be planned.
    """
    if not config.out:
        raise ConfigError("no output was given: use --out FOLDER or --out URL")
    asked = asked_of(open_store(config.out), check_inputs(config), extend=True)
    return asked.plan.generations[asked.number]
