"""Generations of a corpus that grows: what may differ between them, and what identifies each.

Generation 0 is the run that began a corpus. Each further one has a plan and a ``run.yaml`` of its
own under ``generations/``, and shards behind those of the generation before it. Nothing that an
earlier generation wrote is written again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import from_saved
from ovamgen.config import RunConfig, identity
from ovamgen.errors import ConfigError
from ovamgen.plan.planning import Plan

_MAY_CHANGE = {
    "attribution.missing",
    "classes",
    "inputs.captions",
    "inputs.instances",
    "plan.classes",
    "plan.empty_share",
    "plan.limit",
    "plan.max_targets",
    "plan.min_area",
    "plan.per_class",
}
"""What decides which samples there are, and not what one is like."""
_OF_GENERATIONS = {"extends", "retries"}
"""Fields of an identity that no configuration has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The part of ``run.yaml`` that only generations after the first have."""

    number: int
    first_shard: int
    extends: tuple[str, ...]
    """Fingerprints of the generations before it, in their order."""
    retries: bool
    """Its samples are failed ones of those, tried again."""

    @classmethod
    def of(cls, run_info: Mapping[str, Any]) -> Generation:
        """What the content of a ``run.yaml`` says.

        Raises:
            ValueError: it is damaged.
        """
        values = run_info.get("generation")
        if values is None:
            return cls(number=0, first_shard=0, extends=(), retries=False)
        match values:
            case {
                "number": int(number),
                "first_shard": int(first),
                "extends": [*extends],
                "retries": bool(retries),
            } if len(extends) == number > 0 <= first and all(isinstance(e, str) for e in extends):
                return cls(
                    number=number, first_shard=first, extends=tuple(extends), retries=retries
                )
        raise ValueError("its generation is none")

    @classmethod
    def of_plan(cls, plan: Plan, before: tuple[str, ...]) -> Generation:
        """The generation of a plan of its own, behind those of the fingerprints."""
        return cls(
            number=len(before),
            first_shard=plan.first_shard,
            extends=before,
            retries=plan.is_retries,
        )

    def to_run_info(self) -> dict[str, Any]:
        """As it stands in ``run.yaml``; nothing for the first."""
        if not self.number:
            return {}
        values = {"number": self.number, "first_shard": self.first_shard}
        return {"generation": {**values, "extends": [*self.extends], "retries": self.retries}}


def fingerprints_of(run_info: Mapping[str, Any]) -> tuple[str, ...]:
    """Fingerprints that samples of a corpus carry, in the order of its generations.

    Args:
        run_info: the content of its last ``run.yaml``, or what is derived from it.
    """
    own = (str(run_info["fingerprint"]),) if "fingerprint" in run_info else ()
    return (*Generation.of(run_info).extends, *own)


def identity_of(
    config: RunConfig, inputs: dict[str, str], plan: Plan, before: tuple[str, ...]
) -> dict[str, Any]:
    """What the fingerprint of a generation is made of.

    Args:
        config: its own.
        inputs: digests of what it read.
        plan: its own.
        before: fingerprints of the generations before it.
    """
    values = identity(config, inputs)
    if before:
        values["extends"] = before[-1]
    if plan.is_retries:
        values["retries"] = _digest_of_retries(plan)
    return values


def refuse_changes(run_info: Mapping[str, Any], new: Mapping[str, Any], config: RunConfig) -> None:
    """Checks that a configuration differs from a run's only in which samples there are.

    Args:
        run_info: of the generation that is to be extended.
        new: identity of the configuration.
        config: the configuration.

    Raises:
        ConfigError: names what else differs.
    """
    changed = changes_beyond_growth(run_info, new, config)
    if changed:
        raise ConfigError(
            "an extension may have a larger --limit or --per-class, other captions and more "
            "classes; how samples are made stays as it was, and this differs: "
            f"{'; '.join(changed)}: give it as it was, or begin another --out"
        )


def changes_beyond_growth(
    run_info: Mapping[str, Any], new: Mapping[str, Any], config: RunConfig
) -> list[str]:
    """What differs and may not, as ``field: old -> new``; see `refuse_changes`."""
    old = run_info["identity"]
    classes = from_saved(run_info["config"])
    known = {entry.name for entry in classes.classes}
    names = sorted(
        name
        for name in {*old, *new} - _MAY_CHANGE - _OF_GENERATIONS
        if old.get(name) != new.get(name)
        and not name.startswith("plan.wanted.")
        # thresholds of classes that are new are no change of the others
        and not (name.startswith("masks.class_tau.") and name.rpartition(".")[2] not in known)
    )
    found = [f"{name}: {old.get(name)} -> {new.get(name)}" for name in names]
    return found + _lost_classes(classes, config.classes)


def _lost_classes(old: ClassSet, new: ClassSet) -> list[str]:
    """The classes that masks were made of and that another set has not, or not as they are."""
    there = {entry.id: (entry.name, entry.phrase) for entry in new.classes}
    return [
        f"class {entry.id}: {entry.name} -> {there.get(entry.id, ('none',))[0]}"
        for entry in old.classes
        if there.get(entry.id) != (entry.name, entry.phrase)
    ]


def _digest_of_retries(plan: Plan) -> str:
    digest = hashlib.sha256()
    for batch in plan.columns("key", "retry_of", "attempt"):
        for row in zip(*(column.to_pylist() for column in batch), strict=True):
            digest.update(" ".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()
