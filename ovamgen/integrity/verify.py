"""A whole output, verified: what it is, how far it is, and every file that is not as it must be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ovamgen.console.progress import Track, untracked
from ovamgen.corpus.open import classes_of
from ovamgen.integrity.documents import Papers, read_papers
from ovamgen.integrity.findings import Finding, Findings, Verification
from ovamgen.integrity.indexes import check_indexes
from ovamgen.integrity.output_kinds import layout_of, unknown_files
from ovamgen.integrity.sample_check import SampleRules
from ovamgen.integrity.shard_check import ShardJob, ShardResult, check_shard
from ovamgen.integrity.view_check import verify_view
from ovamgen.run.generations import fingerprints_of
from ovamgen.shards.output_files import (
    INCOMPLETE_NAME,
    INDEXES,
    MANIFEST_NAME,
    Layout,
    record_name,
    recorded_indices,
    shard_name,
)
from ovamgen.shards.process_pool import run_in_processes
from ovamgen.storage.store import Store, open_store

_WORTH_A_PROCESS = 32 * 1024**2
"""Bytes of tars that take longer to check than a process takes to start."""

_PROVENANCE = {"model": "id", "model_digest": "weights_sha256", "tokens_sha256": "tokens_sha256"}
"""Fields of ``KEY.json`` and where the same stands in ``run.yaml``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examined:
    """A verification, with what mending needs beside it."""

    verification: Verification
    papers: Papers
    results: dict[int, ShardResult]
    """Results of the shards that were checked, by index."""
    tars: dict[int, str]
    """Name of every shard's tar, by index."""


def verify(
    url: str, *, jobs: int = 1, source: str | None = None, track: Track = untracked
) -> Verification:
    """The verification of a run, or of what select, reannotate or export wrote.

    Every byte of every shard is read. Nothing is changed.

    Args:
        url: folder or URL.
        jobs: shards checked at once, each in a process of its own.
        source: of a view, the corpus that it is of; by default the one beside it.
        track: shows how far it is.

    Raises:
        ConfigError: nothing there that ovamgen wrote.
        ShardError: the store cannot be read.
    """
    store = open_store(url)
    if irregular := store.irregular():
        return _not_looked_into(store, irregular)
    names = store.sizes()
    layout = layout_of(store, names)
    if layout == "view":
        return verify_view(store, names, source)
    return examine(store, jobs=jobs, track=track).verification


def examine(
    store: Store,
    *,
    jobs: int = 1,
    only: Collection[int] | None = None,
    is_locked: bool = False,
    track: Track = untracked,
) -> Examined:
    """What `verify` finds in a store that is no view, with what mending needs.

    Args:
        store: of the output.
        jobs: shards checked at once.
        only: indices of the shards to read; the records of others are taken from the manifest.
        is_locked: the lock is the caller's own.
        track: shows how far it is.
    """
    names = store.sizes()
    findings = Findings()
    papers = read_papers(store, names, findings)
    layout = _refined(layout_of(store, names), papers.run)
    tars = _expected(names, papers)
    there = set(recorded_indices(names)) & tars.keys()
    finished = any(name in names for name in INDEXES) and INCOMPLETE_NAME not in names
    wanted = [index for index in sorted(tars) if finished or index in there]
    to_check = wanted if only is None else [index for index in wanted if index in only]
    size = sum(names.get(tars[index], 0) for index in to_check)
    checks = run_in_processes(
        partial(check_shard, store),
        _jobs(to_check, tars, papers, layout),
        min(jobs, len(to_check), 1 + size // _WORTH_A_PROCESS),
        flag="--jobs",
    )
    results = {result.index: result for result in track(checks, len(to_check), "shards")}
    of_shards = [f for _, result in sorted(results.items()) for f in result.findings]
    _check_manifest(papers, results, tars, findings)
    if finished:
        papers.notes += _check_derived(store, names, layout, papers, results, tars, findings)
    state: Literal["planned", "unfinished", "complete"] = "complete"
    if not finished:
        state = "unfinished" if there or papers.run_file_is_there else "planned"
    for name in unknown_files(layout, names, tars):
        findings.add(name, "no file but those of the output", f"{names[name]} bytes", "orphan")
    running = not is_locked and store.holder() is not None
    if not running:
        for name in store.leftovers():
            findings.add(name, "nothing of processes that are gone", "their scratch", "leftover")
    known = [results[i].record for i in results] + [
        record
        for index, record in (papers.manifest.records if papers.manifest else {}).items()
        if index not in results
    ]
    records = [record for record in known if record is not None]
    found = (*findings.all(), *of_shards)
    verification = Verification(
        out=store.url,
        layout=layout,
        state=state,
        running=running,
        shards=len(tars),
        shards_without_record=tuple(sorted(tars.keys() - there)),
        shards_checked=len(results),
        samples=sum(record.samples for record in records),
        failed=sum(record.failed for record in records),
        bytes_checked=sum(result.bytes_read for result in results.values()),
        findings=_settled(found, state),
        notes=tuple(papers.notes),
        mend=_mend(store, layout, _settled(found, state), state, running),
    )
    return Examined(verification=verification, papers=papers, results=results, tars=tars)


def _not_looked_into(store: Store, irregular: Mapping[str, str]) -> Verification:
    """What is found of an output with links in it: they are named, and lead nowhere."""
    findings = Findings()
    for name, kind in irregular.items():
        findings.add(name, "a file or a folder", kind, "orphan")
    return Verification(
        out=store.url,
        layout="run",
        state="unfinished",
        running=False,
        shards=0,
        shards_without_record=(),
        shards_checked=0,
        samples=0,
        failed=0,
        bytes_checked=0,
        findings=findings.all(),
        notes=("nothing else was looked at: an output holds files and folders alone",),
        mend="remove what is named above, or put the files themselves there, and verify again",
    )


def _refined(layout: Layout, run: Mapping[str, Any] | None) -> Layout:
    derived = (run or {}).get("derived")
    is_reannotated = isinstance(derived, dict) and derived.get("command") == "reannotate"
    return "reannotation" if layout == "run" and is_reannotated else layout


def _expected(names: Mapping[str, int], papers: Papers) -> dict[int, str]:
    """Names of all tars that there must be, by index: from the best witness there is."""
    listed, plan = papers.manifest.records if papers.manifest else {}, papers.plan
    if plan is None and listed:
        return {index: record.name for index, record in listed.items()}
    split = _split(names, papers)
    indices = recorded_indices(names) if plan is None else range(len(plan.tasks))
    return {index: shard_name(split, index) for index in indices}


def _split(names: Mapping[str, int], papers: Papers) -> str:
    if papers.run is not None and papers.manifest is None:
        return str(papers.run["config"].get("shards", {}).get("split", "train"))
    listed = papers.manifest.records.values() if papers.manifest else ()
    tars = [record.name for record in listed] or [n for n in names if n.endswith("-000000.tar")]
    return tars[0].rpartition("-")[0] if tars else "train"


def _jobs(
    indices: list[int],
    tars: Mapping[int, str],
    papers: Papers,
    layout: Layout,
) -> Iterator[ShardJob]:
    listed, plan = papers.manifest.records if papers.manifest else {}, papers.plan
    rules: dict[str, SampleRules] = {}
    for index in indices:
        run = papers.run_of(index) or {}
        fingerprint = str(run.get("fingerprint", ""))
        if fingerprint not in rules:
            # the classes of the corpus, which may have become more
            rules[fingerprint] = _rules(
                run, fingerprint, papers.run or {}, handed_on=layout in ("selection", "export")
            )
        yield ShardJob(
            index=index,
            name=tars[index],
            specs=plan.tasks[index].specs if plan is not None else None,
            listed=listed.get(index),
            fingerprint=fingerprint,
            rules=rules[fingerprint],
        )


def _rules(
    run: Mapping[str, Any], fingerprint: str, latest: Mapping[str, Any], *, handed_on: bool
) -> SampleRules:
    fingerprints = {fingerprint} - {""}
    derived = run.get("derived")
    if isinstance(derived, dict) and derived.get("command") == "select":
        # samples that were copied keep what they say of themselves
        fingerprints.add(str(derived.get("from_fingerprint")))
    if handed_on:
        # so do those of a corpus that was extended, of which a copy says the last generation
        fingerprints.update(fingerprints_of(run))
    model, config = run.get("model"), run.get("config")
    provenance = []
    if isinstance(model, dict):
        provenance = [(name, model[there]) for name, there in _PROVENANCE.items() if there in model]
    heatmaps = config.get("shards", {}).get("heatmaps") if isinstance(config, dict) else None
    return SampleRules(
        fingerprints=frozenset(fingerprints),
        provenance=tuple(provenance),
        heatmaps=heatmaps,
        # whose record of them is no set has been found to be damaged, and is not among the papers
        classes=classes_of(latest, "the output"),
    )


def _check_manifest(
    papers: Papers,
    results: Mapping[int, ShardResult],
    tars: Mapping[int, str],
    findings: Findings,
) -> None:
    if papers.manifest is None:
        return
    listed = papers.manifest.records
    if listed.keys() != tars.keys():
        findings.add(MANIFEST_NAME, f"the {len(tars)} shards of the plan", f"{len(listed)}")
    for index, result in results.items():
        if result.manifest_is_wrong:
            findings.add(
                MANIFEST_NAME, f"what {record_name(index)} and its files say", "something else"
            )


def _check_derived(
    store: Store,
    names: Mapping[str, int],
    layout: Layout,
    papers: Papers,
    results: Mapping[int, ShardResult],
    tars: Mapping[int, str],
    findings: Findings,
) -> list[str]:
    if MANIFEST_NAME not in names:
        findings.add(MANIFEST_NAME, "the manifest of the output", "no such file", "missing")
    listed = papers.manifest.records if papers.manifest else {}
    # a damaged shard will be again what the manifest says of it
    found = [(results[i].record if i in results else None) or listed.get(i) for i in sorted(tars)]
    records = [record for record in found if record is not None]
    if len(records) < len(tars) or papers.run is None:
        return ["the files that describe the whole were not compared: mend the shards first"]
    return check_indexes(store, names, layout, records, papers.run, findings)


def _settled(found: tuple[Finding, ...], state: str) -> tuple[Finding, ...]:
    """Findings that count: what a killed process leaves in an unfinished run is no damage."""
    if state == "complete":
        return found
    return tuple(finding for finding in found if finding.kind != "leftover")


def _mend(
    store: Store, layout: Layout, findings: tuple[Finding, ...], state: str, running: bool
) -> str:
    if not findings and (state == "complete" or running):
        return ""
    if layout != "run":
        verb = {"reannotation": "reannotate", "selection": "select", "export": "export hf"}
        return (
            f"ovamgen repair does not make this: remove what is damaged and run the 'ovamgen "
            f"{verb[layout]}' again that wrote it"
        )
    removable = {"orphan", "leftover"}
    gc = " --gc" if any(finding.kind in removable for finding in findings) else ""
    return f"run: ovamgen repair {store.url}{gc}"
