"""The plan, ``run.yaml`` and the manifest, brought back where they are damaged or gone.

From each other first, then from what lies under a wrong name, then from the captions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ovamgen.errors import ConfigError, OvamgenError, PlanError, ShardError
from ovamgen.integrity.documents import (
    Papers,
    check_run_file,
    parse_manifest,
    plan_fits,
    read_papers,
)
from ovamgen.integrity.findings import Findings
from ovamgen.integrity.output_kinds import unknown_files
from ovamgen.plan.planning import Plan
from ovamgen.run.files import run_file_bytes, saved_config
from ovamgen.run.inputs import plan_for
from ovamgen.shards.output_files import (
    CARD_NAME,
    CONTACT_SHEET_NAME,
    MANIFEST_NAME,
    PLAN_NAME,
    RUN_NAME,
    WIDS_NAME,
)
from ovamgen.storage.store import Store

MAX_STRAY_BYTES = 1024**3
_MOST_STRAYS = 64


def restore_papers(store: Store, overrides: tuple[dict[str, Any], ...]) -> list[str]:
    """Names of the papers that were damaged or gone and are whole again.

    A ``run.yaml`` that can only be written by a run with its model is left as it is; the manifest
    is written at the end of every run, and restored here only where the others need it.

    Args:
        store: of a run, whose lock is held; a reannotation is left as it is.
        overrides: of the run's configuration, such as where its captions are now.

    Raises:
        ConfigError: the plan is gone, and the captions that it was made of as well.
    """
    names = store.sizes()
    findings = Findings()
    papers = read_papers(store, names, findings)
    if papers.run is not None and "derived" in papers.run:
        return []
    wrong = {finding.file for finding in findings}
    restored: list[str] = []

    def put(name: str, data: bytes) -> None:
        store.put(name, data)
        restored.append(name)

    strays = list(_stray_names(names, papers, wrong))
    if papers.manifest is None and MANIFEST_NAME in wrong:
        data = _found(store, strays, lambda data: parse_manifest(data) is not None)
        if data is not None:
            papers.manifest = parse_manifest(data)
            papers.run = papers.run or papers.manifest.run
            put(MANIFEST_NAME, data)
    if RUN_NAME in wrong:
        data = _run_file(store, strays, papers)
        if data is not None:
            papers.run = check_run_file(data)
            put(RUN_NAME, data)
    has_plan = PLAN_NAME in names or PLAN_NAME in wrong
    if PLAN_NAME in wrong or (papers.run is not None and not has_plan):
        put(PLAN_NAME, _plan(store, strays, papers, overrides))
    return restored


def _stray_names(names: Mapping[str, int], papers: Papers, wrong: set[str]) -> Iterator[str]:
    """Files that may hold what belongs elsewhere: damaged, unknown, or of a wrong size."""
    records = papers.manifest.records if papers.manifest else {}
    tars = {index: record.name for index, record in records.items()}
    beside = {MANIFEST_NAME, RUN_NAME, PLAN_NAME, WIDS_NAME, CARD_NAME, CONTACT_SHEET_NAME}
    sizes = {record.name: record.size_bytes for record in records.values()}
    of_wrong_size = [name for name, size in sizes.items() if names.get(name, size) != size]
    unknown = unknown_files("run", names, tars) if tars else []
    candidates = dict.fromkeys([*sorted(wrong), *sorted(beside), *of_wrong_size, *unknown])
    there = [name for name in candidates if names.get(name, MAX_STRAY_BYTES) < MAX_STRAY_BYTES]
    yield from there[:_MOST_STRAYS]


def _found(store: Store, names: list[str], is_it: Callable[[bytes], bool]) -> bytes | None:
    for name in names:
        try:
            data = store.read(name, MAX_STRAY_BYTES)
            if is_it(data):
                return data
        except OvamgenError:
            continue
    return None


def _run_file(store: Store, strays: list[str], papers: Papers) -> bytes | None:
    manifest = papers.manifest
    recorded = manifest.files.get(RUN_NAME) if manifest is not None else None
    if manifest is not None and manifest.run:
        data = run_file_bytes(manifest.run)
        if recorded in (None, hashlib.sha256(data).hexdigest()):
            return data

    def is_run_file(data: bytes) -> bool:
        check_run_file(data)
        return recorded in (None, hashlib.sha256(data).hexdigest())

    return _found(store, strays, is_run_file)


def _plan(
    store: Store, strays: list[str], papers: Papers, overrides: tuple[dict[str, Any], ...]
) -> bytes:
    recorded = papers.manifest.files.get(PLAN_NAME) if papers.manifest else None
    run = papers.run

    def is_plan(data: bytes) -> bool:
        if recorded is not None:
            return hashlib.sha256(data).hexdigest() == recorded
        return run is not None and plan_fits(Plan.from_parquet(data), run)

    found = _found(store, strays, is_plan)
    if found is not None:
        return found
    if run is None:
        raise ShardError(
            f"neither {PLAN_NAME} nor {RUN_NAME} of {store.url} can be read, and there is no "
            "manifest: run the 'ovamgen generate' that began it, with another --out"
        )
    captions = run["config"].get("plan", {}).get("captions", "")
    what_to_do = (
        f"{PLAN_NAME} of {store.url} is gone and is made again from its captions (sha256 "
        f"{run['inputs'].get('captions')}): put them back to {captions}, or say where they are "
        "with --set plan.captions=FILE"
    )
    try:
        plan = plan_for(saved_config(run, store.url, *overrides))
    except (ConfigError, PlanError) as error:
        raise ConfigError(f"{what_to_do}; {error}") from None
    if not plan_fits(plan, run):
        raise ConfigError(f"{what_to_do}; those that are there now are others")
    return plan.to_parquet()
