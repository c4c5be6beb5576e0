"""What a configuration asks of an output: to begin it, to go on with it, or to extend it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ovamgen.config import RunConfig, fingerprint_of
from ovamgen.console.wording import counted
from ovamgen.errors import ConfigError
from ovamgen.plan.planning import Plan
from ovamgen.run.files import differences, has_made_shards, read_plan, read_run_files
from ovamgen.run.generations import (
    changes_beyond_growth,
    fingerprints_of,
    identity_of,
    refuse_changes,
)
from ovamgen.run.inputs import inputs_of, named_inputs, plan_for, settings_of_plan
from ovamgen.shards.output_files import RECORDS, plan_name, recorded_indices
from ovamgen.storage.store import Store


class NothingToAddError(ConfigError):
    """An extension that would hold no sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The generation of an output that a configuration is about."""

    plan: Plan
    """Plan of the corpus as it will be."""
    earlier: tuple[dict[str, Any], ...]
    """``run.yaml`` of the generations before it, in their order."""
    saved: dict[str, Any] | None
    """Content of its own ``run.yaml``, where there is one."""
    inputs: dict[str, str]
    """sha256 by name of every file that its samples depend on."""
    identity: dict[str, Any]
    replaced: list[str] = field(default_factory=list)
    """In what the configuration that began the output differs, where it gives way to this one."""
    gives_way: int = 0
    """Number of an extension that none of the samples were made of, and that is no longer asked
    for; 0 where there is none."""

    @property
    def number(self) -> int:
        """Number of the generation."""
        return len(self.earlier)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of what determines its samples."""
        return fingerprint_of(self.identity)


def asked_of(store: Store, config: RunConfig, *, extend: bool = False) -> Asked:
    """What a configuration asks of an output; reads the captions where they are to be planned.

    Args:
        store: of the output.
        config: with its tokens chosen.
        extend: add to what is there, unless the configuration is the one that it was made with.

    Raises:
        ConfigError: another configuration has made shards there, or there is nothing to extend.
        PlanError: the captions cannot be planned.
    """
    plan, runs = read_plan(store, begun=True), read_run_files(store)
    planned = len(plan.generations) if plan is not None else 0
    if len(runs) > max(planned, 1):
        raise ConfigError(
            f"{store.url}/{plan_name(planned)} is gone: 'ovamgen repair' brings it back"
        )
    if extend and (plan is None or not runs):
        raise ConfigError(
            f"{store.url} holds no corpus that could be extended: leave --extend out to begin one"
        )
    if plan is None:
        return _begun(config, plan_for(config), runs, [])
    last = planned - 1
    if _is_asked_for(config, plan, runs, last):
        return _going_on(config, plan, runs, last)
    gives_way = last if _may_give_way(store, plan, runs, last) else 0
    if gives_way:
        plan, runs = Plan.joined(plan.generations[:last]), runs[:last]
        if _is_asked_for(config, plan, runs, last - 1):
            return _going_on(config, plan, runs, last - 1, gives_way)
    if extend:
        return _extended(config, plan, runs, gives_way)
    return _replaced(store, config, plan, runs)


def asked_for_retries(store: Store, config: RunConfig, retries: Plan) -> Asked:
    """The generation that tries failed samples again.

    Args:
        store: of a finished corpus.
        config: of its last generation, its tokens chosen.
        retries: its plan.
    """
    plan, runs = read_plan(store), read_run_files(store)
    if plan is None or len(runs) != len(plan.generations):
        raise ConfigError(f"{store.url} is not whole: 'ovamgen repair' mends it")
    return _next_generation(config, plan, runs, retries, len(runs))


def refuse_another(store: Store, changed: list[str], hint: str = "") -> None:
    """Checks that no other configuration has made a shard there.

    Args:
        store: of the run.
        changed: in what the configuration there differs, if it does.
        hint: what else can be done.

    Raises:
        ConfigError: names what differs.
    """
    if changed and has_made_shards(store):
        raise ConfigError(_another(store, changed, hint))


def _another(store: Store, changed: list[str], hint: str = "") -> str:
    return (
        f"{store.url} belongs to another configuration ({'; '.join(changed)}): "
        f"give that configuration to go on with it, {hint}or another --out"
    )


def _begun(config: RunConfig, plan: Plan, runs: list[dict[str, Any]], replaced: list[str]) -> Asked:
    """Generation 0, planned now or before."""
    inputs = inputs_of(config, plan.inputs)
    return Asked(
        plan=plan,
        earlier=(),
        saved=runs[0] if runs else None,
        inputs=inputs,
        identity=identity_of(config, inputs, plan, ()),
        replaced=replaced,
    )


def _going_on(
    config: RunConfig, plan: Plan, runs: list[dict[str, Any]], number: int, gives_way: int = 0
) -> Asked:
    own = plan.generations[number]
    inputs = inputs_of(config, own.inputs)
    before = fingerprints_of(runs[number - 1]) if number else ()
    return Asked(
        plan=plan,
        earlier=tuple(runs[:number]),
        saved=runs[number] if len(runs) > number else None,
        inputs=inputs,
        identity=identity_of(config, inputs, own, before),
        gives_way=gives_way,
    )


def _is_asked_for(config: RunConfig, plan: Plan, runs: list[dict[str, Any]], number: int) -> bool:
    """Whether the generation is the one that the configuration makes."""
    own = plan.generations[number]
    if _differences(config, own):
        return False
    asked = _going_on(config, plan, runs, number)
    return asked.saved is None or asked.saved["fingerprint"] == asked.fingerprint


def _differences(config: RunConfig, plan: Plan) -> list[str]:
    return plan.differences(settings_of_plan(config), named_inputs(config, plan), config.classes)


def _may_give_way(store: Store, plan: Plan, runs: list[dict[str, Any]], last: int) -> bool:
    """Whether it is an extension of which no shard is finished."""
    if not last or not runs:
        return False
    first = plan.generations[last].first_shard
    return not any(index >= first for index in recorded_indices(store.list(RECORDS)))


def _extended(config: RunConfig, plan: Plan, runs: list[dict[str, Any]], gives_way: int) -> Asked:
    inputs = inputs_of(config, named_inputs(config, plan))
    refuse_changes(runs[-1], identity_of(config, inputs, plan, ()), config)
    new = plan_for(config, plan)
    if not new.tasks:
        raise NothingToAddError(
            f"{config.out} has {counted(plan.samples, 'sample')} and nothing is to be added: no "
            f"other caption of {config.plan.captions} becomes a sample within --limit and "
            "--per-class; see 'ovamgen plan' for why"
        )
    return _next_generation(config, plan, runs, new, gives_way)


def _next_generation(
    config: RunConfig, plan: Plan, runs: list[dict[str, Any]], new: Plan, gives_way: int
) -> Asked:
    before = fingerprints_of(runs[-1])
    inputs = inputs_of(config, new.inputs)
    return Asked(
        plan=Plan.joined((*plan.generations, new)),
        earlier=tuple(runs),
        saved=None,
        inputs=inputs,
        identity=identity_of(config, inputs, new, before),
        gives_way=gives_way,
    )


def _replaced(store: Store, config: RunConfig, plan: Plan, runs: list[dict[str, Any]]) -> Asked:
    """A configuration in the place of the one that began the output, if that has made nothing."""
    own = plan.generations[-1]
    of_plan = _differences(config, own)
    inputs = inputs_of(config, named_inputs(config, own))
    changed = of_plan
    if runs and not changed:
        new = identity_of(config, inputs, own, fingerprints_of(runs[-1])[:-1])
        changed = differences(runs[-1]["identity"], new)
    # what has made nothing gives way, if there is something to put in its place
    may_replace = not has_made_shards(store) and len(plan.generations) == 1
    if not may_replace or (of_plan and not config.plan.captions):
        raise ConfigError(_another(store, changed, _hint(config, plan, runs, inputs)))
    return _begun(config, plan_for(config) if of_plan else plan, runs, changed)


def _hint(config: RunConfig, plan: Plan, runs: list[dict[str, Any]], inputs: dict[str, str]) -> str:
    """A sentence saying that the configuration would extend the corpus; "" where it would not."""
    asked = identity_of(config, inputs, plan, ())
    if not (runs and config.plan.captions) or changes_beyond_growth(runs[-1], asked, config):
        return ""
    new = plan_for(config, plan).samples
    return f"--extend to add {counted(new, 'sample')} to it, " if new else ""
