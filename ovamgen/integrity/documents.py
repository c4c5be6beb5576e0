"""What says how an output was made: ``run.yaml``, the plan and the manifest, against each other.

Each is read as bytes, with a bound, and believed only as far as another one, or a digest, bears it
out. Whatever cannot be believed is a finding, never an exception.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ovamgen.bounds import MAX_MANIFEST_BYTES, MAX_YAML_BYTES
from ovamgen.config import canonical_json, fingerprint_of
from ovamgen.corpus.open import classes_of
from ovamgen.errors import OvamgenError, ShardError
from ovamgen.integrity.findings import Findings
from ovamgen.integrity.shard_check import parse_record
from ovamgen.plan.planning import Plan
from ovamgen.records import ShardRecord
from ovamgen.run.files import check_sections, parse_run_file, run_file_bytes
from ovamgen.run.generations import Generation
from ovamgen.shards.manifest import digest_of_run_info, generations_of, sha256_of
from ovamgen.shards.output_files import (
    MANIFEST_NAME,
    PLAN_NAME,
    RUN_NAME,
    plan_name,
    run_name,
)
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
    runs: tuple[dict[str, Any], ...]
    """Content of ``run.yaml`` of every generation; the last is `run`."""


@dataclass(slots=True, kw_only=True, eq=False)
class Papers:
    """What could be read and believed; None is what is not there or not to be believed."""

    manifest: Manifest | None = None
    runs: list[dict[str, Any] | None] = field(default_factory=lambda: [None])
    """The content of ``run.yaml`` of every generation, or the same from the manifest."""
    run_file_is_there: bool = False
    plans: list[Plan | None] = field(default_factory=lambda: [None])
    """The plan of every generation."""
    notes: list[str] = field(default_factory=list)

    @property
    def run(self) -> dict[str, Any] | None:
        """Content of ``run.yaml`` of the last generation."""
        return self.runs[-1]

    @property
    def plan(self) -> Plan | None:
        """Plan of all generations, where all their plans are there."""
        plans = [plan for plan in self.plans if plan is not None]
        return Plan.joined(plans) if len(plans) == len(self.plans) else None

    def run_of(self, shard: int) -> dict[str, Any] | None:
        """``run.yaml`` of the generation that a shard is of."""
        if len(self.runs) == 1:
            # of a copy, what the manifest holds is of all shards
            return self.run
        known = [run for run in self.runs if run is not None]
        own = [run for run in known if Generation.of(run).first_shard <= shard]
        return own[-1] if own else None


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
    count = _generations(names, manifest)
    papers.runs, papers.plans = [None] * count, [None] * count
    for number in range(count):
        listed = manifest.runs[number] if manifest and number < len(manifest.runs) else None
        of_run, of_plan = run_name(number), plan_name(number)
        if of_run in names:
            _read_run_file(store, papers, number, listed, findings)
        elif manifest is not None:
            papers.runs[number] = listed or None
            if of_run in manifest.files:
                findings.add(of_run, "the settings of the run", "no such file", "missing")
        if of_plan in names:
            _read_plan(store, papers, number, findings)
        elif number or (manifest is not None and of_plan in manifest.files):
            findings.add(of_plan, "the plan of the run", "no such file", "missing")
    _check_chain(papers, findings)
    if plan_name(count) in names:
        papers.notes.append(
            f"{plan_name(count)} is of an extension that was stopped before it made anything: the "
            "command that began it goes on with it"
        )
    return papers


def _generations(names: Mapping[str, int], manifest: Manifest | None) -> int:
    """How many there are; a plan whose extension was not begun in earnest makes none."""
    count = max(1, len(manifest.runs) if manifest else 1)
    while run_name(count) in names:
        count += 1
    return count


def _check_chain(papers: Papers, findings: Findings) -> None:
    """Finds generations that do not name those before them."""
    marks: list[str] = []
    for number, run in enumerate(papers.runs):
        if run is None:
            return
        if number and [*Generation.of(run).extends] != marks:
            findings.add(run_name(number), "the generations before it", "others")
        # a manifest may say less of a run than run.yaml does
        marks.append(str(run.get("fingerprint", "")))


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
    wanted |= {"generations"} & values.keys()
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
        runs=_listed_generations(values, records) if "generations" in values else (run,),
    )


def _listed_generations(
    values: Mapping[str, Any], records: Sequence[ShardRecord]
) -> tuple[dict[str, Any], ...]:
    """``run.yaml`` of every generation that a manifest lists.

    Raises:
        ShardError: what it lists is not what its records and its run make of it.
    """
    try:
        runs = [dict(entry["run"]) for entry in values["generations"]]
        numbers = [Generation.of(run).number for run in runs]
        whole = generations_of(records, runs) == values["generations"]
    except (KeyError, TypeError, ValueError, AttributeError):
        whole, numbers, runs = False, [], []
    if not whole or numbers != [*range(max(2, len(runs)))] or runs[-1] != values["run"]:
        raise ShardError("its generations are not those of its shards and its run")
    for run in runs:
        classes_of(run, MANIFEST_NAME)
    return tuple(runs)


def check_run_file(data: bytes, generation: int = 0) -> dict[str, Any]:
    """The content of a ``run.yaml``, which must be whole in itself.

    Args:
        data: the file.
        generation: number of the generation that it is of.

    Raises:
        ShardError: it is not.
    """
    try:
        values = parse_run_file(data, generation)
    except ValueError as error:
        raise ShardError(str(error)) from None
    if run_file_bytes(values) != data:
        raise ShardError("its text is not as ovamgen writes it")
    classes_of(values, RUN_NAME)
    if "derived" not in values and values["fingerprint"] != fingerprint_of(values["identity"]):
        raise ShardError("its fingerprint is not that of its identity")
    return values


def plan_fits(plan: Plan, run: Mapping[str, Any]) -> bool:
    """Whether a plan is the one that a run's settings and inputs ask for."""
    wanted = {**run["config"].get("plan", {})}
    settings = {name: value for name, value in wanted.items() if name in plan.settings}
    of_drawing = ("tokens", "head", "lora_")
    inputs = {k: digest for k, digest in run["inputs"].items() if not k.startswith(of_drawing)}
    generation = Generation.of(run)
    made_of = (settings, inputs, classes_of(run, RUN_NAME))
    place = (generation.first_shard, generation.retries)
    return (made_of, place) == (
        (plan.settings, plan.inputs, plan.classes),
        (plan.first_shard, plan.is_retries),
    )


def _read_run_file(
    store: Store,
    papers: Papers,
    number: int,
    listed: dict[str, Any] | None,
    findings: Findings,
) -> None:
    """Reads ``run.yaml`` of a generation; ``listed`` is what the manifest holds of it."""
    manifest, name = papers.manifest, run_name(number)
    try:
        data = store.read(name, MAX_YAML_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        papers.runs[number] = check_run_file(data, number)
    except ShardError as error:
        findings.add(name, "the settings of the run", error)
        papers.runs[number] = listed or None
        return
    if manifest is None or not manifest.has_digests:
        return
    recorded = manifest.files.get(name)
    if papers.runs[number] == listed:
        if recorded != digest:
            findings.add(MANIFEST_NAME, f"the sha256 {digest} of {name}", str(recorded))
    elif recorded == digest:
        findings.add(MANIFEST_NAME, f"the content of {name}", "another")
    else:
        findings.add(name, f"sha256 {recorded}", digest)
        papers.runs[number] = listed


def _read_plan(store: Store, papers: Papers, number: int, findings: Findings) -> None:
    manifest, name, run = papers.manifest, plan_name(number), papers.runs[number]
    recorded = manifest.files.get(name) if manifest is not None else None
    digest = sha256_of(store, name) if recorded else None
    try:
        plan = Plan.open(store.open(name))
        before = [earlier for earlier in papers.plans[:number] if earlier is not None]
        if len(before) == number:
            Plan.joined((*before, plan))
    except OvamgenError as error:
        findings.add(name, "the plan of the run", error)
        return
    if run is not None and not plan_fits(plan, run):
        findings.add(name, f"the plan of the settings in {run_name(number)}", "another plan")
    elif digest == recorded:
        papers.plans[number] = plan
    elif _digest_of_content(plan) == digest:
        # as its own content says it must be: it is the manifest that errs
        papers.plans[number] = plan
        findings.add(MANIFEST_NAME, f"the sha256 {digest} of {name}", str(recorded))
    else:
        findings.add(name, f"sha256 {recorded}", str(digest))


def _digest_of_content(plan: Plan) -> str:
    """sha256 (hex) of the file that is written for what a plan says."""
    again = Plan(
        tasks=plan.tasks,
        rejections=plan.rejections,
        inputs=plan.inputs,
        settings=plan.settings,
        classes=plan.classes,
        first_shard=plan.first_shard,
        retries=plan.is_retries,
    )
    return hashlib.sha256(again.to_parquet()).hexdigest()
