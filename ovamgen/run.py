"""A run on its output folder: what is asked, what is planned, what is done, what is left.

Everything that can be found out without loading a model is found out here, before anything is
written; which process then makes the shards is not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from ovamgen import __version__, fault_points
from ovamgen.config import RunConfig, SynthesisConfig, fingerprint, identity
from ovamgen.errors import ConfigError
from ovamgen.isolation import EarlyStop
from ovamgen.journal import RunJournal
from ovamgen.mini import bank_place
from ovamgen.plan.plan_rows import PlannedTasks
from ovamgen.plan.tasks import Plan, make_plan
from ovamgen.records import ModelInfo, RunSummary, ShardRecord
from ovamgen.run_files import (
    PLAN_NAME,
    RUN_NAME,
    differences,
    digest_of,
    library_versions,
    read_plan,
    read_run_file,
    write_plan_file,
)
from ovamgen.shards.card import DOCUMENTS_EDITION
from ovamgen.shards.manifest import finished_shards, write_indexes
from ovamgen.shards.store import Store, open_store

log = logging.getLogger(__name__)

DEMO_CAPTIONS = "demo"
"""The name of the captions that ship with the package."""


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
        if saved is None:
            if not self.store.exists(PLAN_NAME):
                write_plan_file(self.store, self.plan)
            fault_points.reach("run.plan_put")
            self.store.put(RUN_NAME, self._run_file(info, now))
            fault_points.reach("run.run_file_put")
            self.confirmed = now
            return
        changed = differences(saved["model"], now)
        if changed:
            raise ConfigError(
                f"{self.store.url} was begun with another model: {'; '.join(changed)}; "
                "give that model, or another --out"
            )
        self.confirmed = now

    def finished(self, record: ShardRecord) -> None:
        """Take note of a shard that was just published."""
        self.records[record.shard_index] = record
        self.made_now.append(record.shard_index)

    def write_indexes(self) -> None:
        """The files that describe the whole corpus; only where every shard is there."""
        records = [self.records[index] for index in range(len(self.plan.tasks))]
        saved = read_run_file(self.store) or {}
        write_indexes(self.store, records, saved)

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
            "config": self.config.model_dump(mode="json", exclude={"out", "runtime"}),
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
        return yaml.safe_dump(data, sort_keys=True, allow_unicode=True).encode()


@contextmanager
def open_run(config: RunConfig) -> Iterator[Run]:
    """The run of a configuration, with its output locked while the block lasts.

    The plan is made if none is there; `Run.confirm_model` writes it.

    Raises:
        ConfigError: the output, the model, the tokens or a configuration that began the output
            do not fit; two runs on one output.
        PlanError: the captions cannot be planned.
    """
    if not config.out:
        raise ConfigError("no output was given: use --out FOLDER or --out URL")
    store = open_store(config.out)
    _check_model_and_tokens(config)
    saved_plan = read_plan(store)
    plan = saved_plan or plan_for(config)
    inputs = dict(plan.inputs)
    if saved_plan is not None:
        # where no captions are named, those of the plan are meant
        named = _input_digests(config) if config.plan.captions else inputs
        changed = saved_plan.differences(config.plan, named)
        if changed:
            raise ConfigError(_another_configuration(store, changed))
    tokens = config.attribution.tokens
    if tokens not in ("words", "untrained"):
        inputs["tokens"] = digest_of(bank_place(tokens))
    mark = fingerprint(config, inputs)
    saved = read_run_file(store)
    if saved is not None and saved["fingerprint"] != mark:
        changed = differences(saved["identity"], identity(config, inputs))
        raise ConfigError(_another_configuration(store, changed))
    if saved is not None:
        _warn_of_other_versions(saved)
    if not plan.tasks:
        raise ConfigError(
            f"no caption of {config.plan.captions} becomes a sample: see 'ovamgen plan' for why"
        )
    with store.lock():
        store.sweep()
        records = finished_shards(store, config.shards.split, range(len(plan.tasks)), mark)
        try:
            yield Run(
                config=config,
                store=store,
                plan=plan,
                inputs=inputs,
                fingerprint=mark,
                records=records,
            )
        finally:
            store.sweep()


def plan_for(config: RunConfig) -> Plan:
    """The plan of a configuration; reads the captions."""
    if not config.plan.captions:
        raise ConfigError(
            "no captions were given and the output holds no plan: use --captions FILE, or "
            f"--captions {DEMO_CAPTIONS} for those that ship with ovamgen"
        )
    settings = config.plan.model_copy(update={"captions": captions_path(config.plan.captions)})
    return make_plan(settings, model_id=config.model.id)


def captions_path(name: str) -> str:
    """The path of the captions: ``demo`` is a file of the package."""
    if name != DEMO_CAPTIONS:
        return name
    return str(resources.files("ovamgen") / "data" / "demo_captions.csv")


def _check_model_and_tokens(config: RunConfig) -> None:
    # torch is imported by the token bank: only here, so that planning stays quick
    from ovamgen.attribution.method import check_method
    from ovamgen.attribution.token_bank import TokenBank
    from ovamgen.diffusion.pipeline import check_model

    facts = check_model(config.model)
    check_method(config.attribution.method)
    if config.synthesis.scheduler != SynthesisConfig().scheduler:
        # diffusers is slow to import, and the default is known to be there
        from ovamgen.diffusion.schedulers import scheduler_class

        scheduler_class(config.synthesis.scheduler)
    tokens = config.attribution.tokens
    if tokens not in ("words", "untrained"):
        bank = TokenBank.load(tokens)
        if facts.context_width is not None:
            bank.check_width(facts.context_width)


def _input_digests(config: RunConfig) -> dict[str, str]:
    """Digests of the captions and instances that are named; those of the plan stand for others."""
    named = {"captions": config.plan.captions, "instances": config.plan.instances}
    return {
        name: digest_of(captions_path(path) if name == "captions" else path)
        for name, path in named.items()
        if path
    }


def _another_configuration(store: Store, changed: list[str]) -> str:
    return (
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
        ConfigError: no output was given, or the output holds another plan.
        PlanError: the captions cannot be planned.
    """
    if not config.out:
        raise ConfigError("no output was given: use --out FOLDER or --out URL")
    store = open_store(config.out)
    plan = plan_for(config)
    if store.exists(PLAN_NAME):
        saved = read_plan(store)
        changed = saved.differences(config.plan, dict(plan.inputs)) if saved else []
        if changed:
            raise ConfigError(_another_configuration(store, changed))
        return plan
    with store.lock():
        write_plan_file(store, plan)
    return plan
