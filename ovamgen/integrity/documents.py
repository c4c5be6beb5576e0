"""What says how an output was made: ``run.yaml``, the plan and the manifest, against each other.

Each is read as bytes, with a bound, and believed only as far as another one, or a digest, bears it
out. Whatever cannot be believed is a finding, never an exception.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ovamgen.bounds import MAX_MANIFEST_BYTES, MAX_YAML_BYTES
from ovamgen.config import canonical_json
from ovamgen.corpus.open import classes_of
from ovamgen.errors import OvamgenError, ShardError
from ovamgen.integrity.findings import Findings
from ovamgen.integrity.shard_check import parse_record
from ovamgen.plan.planning import Plan
from ovamgen.records import ShardRecord
from ovamgen.run.files import (
    check_sections,
    parse_run_file,
    read_plan,
    run_file_bytes,
)
from ovamgen.shards.manifest import digest_of_run_info, sha256_of
from ovamgen.shards.output_files import MANIFEST_NAME, PLAN_NAME, RUN_NAME
from ovamgen.shards.schema import SCHEMA_VERSION
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """A manifest whose text is whole; what it says of files may still be wrong."""

    records: dict[int, ShardRecord]
    run: dict[str, Any]
    files: dict[str, str]
    """sha256 by name."""
    has_digests: bool
    """False where an ovamgen wrote it that took none."""


@dataclass(slots=True, kw_only=True, eq=False)
class Papers:
    """What could be read and believed; None is what is not there or not to be believed."""

    manifest: Manifest | None = None
    run: dict[str, Any] | None = None
    """The content of ``run.yaml``, or the same from the manifest."""
    run_file_is_there: bool = False
    plan: Plan | None = None
    notes: list[str] = field(default_factory=list)


def read_papers(store: Store, names: Mapping[str, int], findings: Findings) -> Papers:
    """The papers of an output, and what is wrong with them.

    Args:
        store: of the output.
        names: its files.
        findings: grows.
    """
    papers = Papers(run_file_is_there=RUN_NAME in names)
    if MANIFEST_NAME in names:
        try:
            papers.manifest = parse_manifest(store.read(MANIFEST_NAME, MAX_MANIFEST_BYTES))
        except ShardError as error:
            findings.add(MANIFEST_NAME, "the manifest of the output", error)
    manifest = papers.manifest
    if manifest is not None and not manifest.has_digests:
        papers.notes.append(
            f"{MANIFEST_NAME} was written by an ovamgen that recorded no digests of {RUN_NAME} and "
            f"{PLAN_NAME}: some damage to those would not show; generating again adds them"
        )
    if RUN_NAME in names:
        _read_run_file(store, papers, findings)
    elif manifest is not None:
        papers.run = manifest.run or None
        if RUN_NAME in manifest.files:
            findings.add(RUN_NAME, "the settings of the run", "no such file", "missing")
    if PLAN_NAME in names:
        _read_plan(store, papers, findings)
    elif manifest is not None and PLAN_NAME in manifest.files:
        findings.add(PLAN_NAME, "the plan of the run", "no such file", "missing")
    return papers


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in the bytes.

    Raises:
        ShardError: no ovamgen wrote them.
    """
    try:
        values = load_plain_json(data)
        whole = canonical_json(values).encode() == data
    except (ValueError, RecursionError) as error:
        raise ShardError(f"it cannot be read as JSON: {error}") from None
    if not isinstance(values, dict) or not whole:
        raise ShardError("its text is not the canonical JSON of an object")
    has_digests = "run_sha256" in values
    wanted = {"schema_version", "samples", "failed", "shards", "run"}
    if has_digests:
        wanted |= {"files", "run_sha256"}
    if values.keys() != wanted or values["schema_version"] != SCHEMA_VERSION:
        raise ShardError(f"its fields must be {', '.join(sorted(wanted))} of version 1")
    run, files, shards = values["run"], values.get("files", {}), values["shards"]
    if not isinstance(run, dict) or not isinstance(files, dict) or not isinstance(shards, list):
        raise ShardError("its fields are of wrong types")
    if has_digests and digest_of_run_info(run) != values["run_sha256"]:
        raise ShardError("what it holds of the run is not what its digest says")
    try:
        check_sections(run)
    except ValueError as error:
        raise ShardError(f"what it says of the run is damaged: {error}") from None
    classes_of(run, MANIFEST_NAME)
    records = [parse_record(canonical_json(entry).encode()) for entry in shards]
    counts = {
        "samples": sum(record.samples for record in records),
        "failed": sum(record.failed for record in records),
    }
    if wrong := [name for name, count in counts.items() if values[name] != count]:
        raise ShardError(f"its {', '.join(wrong)} are not the sum over its shards")
    indices = [record.shard_index for record in records]
    if indices != sorted(set(indices)):
        raise ShardError("its shards do not ascend, each once")
    return Manifest(
        records={record.shard_index: record for record in records},
        run=run,
        files={str(name): str(digest) for name, digest in files.items()},
        has_digests=has_digests,
    )


def check_run_file(data: bytes) -> dict[str, Any]:
    """The content of a ``run.yaml``, which must be whole in itself.

    Raises:
        ShardError: it is not.
    """
    try:
        values = parse_run_file(data)
    except ValueError as error:
        raise ShardError(str(error)) from None
    if run_file_bytes(values) != data:
        raise ShardError("its text is not as ovamgen writes it")
    classes_of(values, RUN_NAME)
    if "derived" not in values and values["fingerprint"] != _fingerprint(values["identity"]):
        raise ShardError("its fingerprint is not that of its identity")
    return values


def plan_fits(plan: Plan, run: Mapping[str, Any]) -> bool:
    """Whether a plan is the one that a run's settings and inputs ask for."""
    wanted = {**run["config"].get("plan", {})}
    settings = {name: value for name, value in wanted.items() if name in plan.settings}
    inputs = {name: digest for name, digest in run["inputs"].items() if name != "tokens"}
    made_of = (settings, inputs, classes_of(run, RUN_NAME))
    return made_of == (plan.settings, plan.inputs, plan.classes)


def _fingerprint(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(dict(identity)).encode()).hexdigest()


def _read_run_file(store: Store, papers: Papers, findings: Findings) -> None:
    manifest = papers.manifest
    try:
        data = store.read(RUN_NAME, MAX_YAML_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        papers.run = check_run_file(data)
    except ShardError as error:
        findings.add(RUN_NAME, "the settings of the run", error)
        papers.run = manifest.run if manifest is not None and manifest.run else None
        return
    if manifest is None or not manifest.has_digests:
        return
    recorded = manifest.files.get(RUN_NAME)
    if papers.run == manifest.run:
        if recorded != digest:
            findings.add(MANIFEST_NAME, f"the sha256 {digest} of {RUN_NAME}", str(recorded))
    elif recorded == digest:
        findings.add(MANIFEST_NAME, f"the content of {RUN_NAME}", "another")
    else:
        findings.add(RUN_NAME, f"sha256 {recorded}", digest)
        papers.run = manifest.run


def _read_plan(store: Store, papers: Papers, findings: Findings) -> None:
    manifest = papers.manifest
    recorded = manifest.files.get(PLAN_NAME) if manifest is not None else None
    digest = sha256_of(store, PLAN_NAME) if recorded else None
    try:
        plan = read_plan(store)
    except OvamgenError as error:
        findings.add(PLAN_NAME, "the plan of the run", error)
        return
    fits = plan is not None and (papers.run is None or plan_fits(plan, papers.run))
    if plan is None or not fits:
        findings.add(PLAN_NAME, f"the plan of the settings in {RUN_NAME}", "another plan")
    elif digest == recorded:
        papers.plan = plan
    elif _digest_of_content(plan) == digest:
        # as its own content says it must be: it is the manifest that errs
        papers.plan = plan
        findings.add(MANIFEST_NAME, f"the sha256 {digest} of {PLAN_NAME}", str(recorded))
    else:
        findings.add(PLAN_NAME, f"sha256 {recorded}", str(digest))


def _digest_of_content(plan: Plan) -> str:
    """sha256 (hex) of the file that is written for what a plan says."""
    again = Plan(
        tasks=plan.tasks,
        rejections=plan.rejections,
        inputs=plan.inputs,
        settings=plan.settings,
        classes=plan.classes,
    )
    return hashlib.sha256(again.to_parquet()).hexdigest()
