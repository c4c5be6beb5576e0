"""An output mended: exactly what is missing or damaged is made again, by the ordinary runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ovamgen.config import RunConfig, build_config, fingerprint
from ovamgen.console.progress import Track, untracked
from ovamgen.console.wording import counted
from ovamgen.engine.token_choice import open_tokens
from ovamgen.errors import ConfigError
from ovamgen.generation import generate
from ovamgen.integrity.findings import Finding, Verification, index_ranges
from ovamgen.integrity.output_kinds import layout_of
from ovamgen.integrity.restore_documents import restore_papers
from ovamgen.integrity.shard_check import ShardResult
from ovamgen.integrity.verify import Examined, examine, verify
from ovamgen.records import ShardRecord
from ovamgen.run.bad_samples import EngineFactory
from ovamgen.run.files import PLANNED, saved_config
from ovamgen.run.inputs import inputs_of
from ovamgen.shards.output_files import (
    RECORDS,
    RUN_NAME,
    record_name,
    recorded_indices,
    run_name,
)
from ovamgen.shards.shard_record import read_record, record_to_json
from ovamgen.storage.store import Store, open_store

REMOVABLE = ("orphan", "leftover")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What was done to an output, and what is left."""

    out: str
    left: Verification
    files_restored: tuple[str, ...] = ()
    """Papers and records that were written again without making a sample."""
    shards_made: tuple[int, ...] = ()
    """Indices of the shards that were made again or for the first time."""
    other_bytes: tuple[int, ...] = ()
    """Shards whose bytes are not those that were recorded before."""
    removed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "left": self.left.to_json()}

    def lines(self) -> list[str]:
        """As text for people."""
        if not (self.files_restored or self.shards_made or self.removed) and self.left.ok:
            return [f"{self.out}: nothing to repair"]
        text = [f"restored       {name}" for name in self.files_restored]
        if self.shards_made:
            made = index_ranges(self.shards_made)
            text.append(f"made again     {counted(len(self.shards_made), 'shard')} ({made})")
        if self.other_bytes:
            other = index_ranges(self.other_bytes)
            text.append(
                f"other bytes    shards {other} are whole, but not byte for byte what they were: "
                "versions or machine differ from those that made them"
            )
        text += [f"removed        {name}" for name in self.removed]
        return [*text, *self.left.lines()]


def repair(
    url: str,
    *,
    gc: bool = False,
    agree: Callable[[Sequence[Finding]], bool] = lambda findings: True,
    overrides: tuple[dict[str, Any], ...] = (),
    jobs: int = 1,
    factory: EngineFactory | None = None,
    say: Callable[[str], object] = lambda text: None,
    track: Track = untracked,
) -> Repaired:
    """The output of a run, whole again; shards that are not damaged are not touched.

    Args:
        url: folder or URL of the run.
        gc: remove files that nothing knows, and scratch of processes that are gone.
        agree: asked with those files before they are removed.
        overrides: layers above the run's own configuration: where and how fast (``runtime``), or
            what ``run.yaml`` can no longer say.
        jobs: shards verified at once.
        factory: loads what draws; the real engine where not given.
        say: told what goes on.
        track: shows how far verifying is, which is done once before and once after.

    Raises:
        ConfigError: it is no run; a run is going on; something that is needed cannot be restored.
        OvamgenError: as for a run.
    """
    store = open_store(url)
    layout = layout_of(store, store.sizes())
    if layout == "view":
        return _refused(verify(url))
    with store.lock():
        restored: list[str] = []
        if layout == "run":
            restored = restore_papers(store, overrides)
        examined = examine(store, jobs=jobs, is_locked=True, track=track)
        found = examined.verification
        removed = _collect(store, found, agree) if gc else ()
        damaged = [finding for finding in found.findings if finding.kind not in REMOVABLE]
        if found.layout != "run" and (damaged or found.state != "complete"):
            return _refused(found)
        for finding in damaged:
            say(finding.line())
        config = _config(store, examined, overrides) if _has_work(found) else None
        before = _records_before(examined)
        records = _restore_records(store, examined)
        to_make = _to_make(examined)
        for index in {*to_make} & {*recorded_indices(store.list(RECORDS))}:
            store.delete(record_name(index))
        if config is not None and examined.papers.run is None:
            # a run writes it again once its model is loaded, so that one shard must be made
            store.delete(RUN_NAME)
            if not to_make:
                to_make = [max(examined.tars)]
                store.delete(record_name(to_make[0]))
    if config is not None:
        generate(config, factory)
    left = found
    if config is not None or restored or removed:
        left = examine(store, jobs=jobs, only=[*to_make, *records], track=track).verification
    now = {index: read_record(store, index) for index in to_make}
    return Repaired(
        out=store.url,
        files_restored=(*restored, *map(record_name, records)),
        shards_made=tuple(to_make),
        other_bytes=tuple(i for i in to_make if i in before and now[i] != before[i]),
        removed=tuple(removed),
        left=left,
    )


def _refused(found: Verification) -> Repaired:
    if found.ok:
        return Repaired(out=found.out, left=found)
    files = sorted({f.file for f in found.findings if f.kind not in REMOVABLE})
    shown = ", ".join(files[:5]) + (", ..." if len(files) > 5 else "")
    raise ConfigError(
        f"repair makes the shards of runs; {found.out} is a {found.layout} with {len(files)} "
        f"damaged files ({shown}): {found.mend}"
    )


def _has_work(found: Verification) -> bool:
    """Whether the runner has something to do: shards, or the files that describe the whole."""
    return found.state != "complete" or any(f.kind not in REMOVABLE for f in found.findings)


def _config(store: Store, examined: Examined, overrides: tuple[dict[str, Any], ...]) -> RunConfig:
    """Configuration of the run; its captions are needed only where the plan is made anew."""
    papers = examined.papers
    if papers.run is None and len(papers.runs) > 1:
        raise ConfigError(
            f"{run_name(len(papers.runs) - 1)} of {store.url} cannot be read and no manifest holds "
            "its content: put it back from a copy"
        )
    if papers.run is not None:
        planned = (PLANNED,) if papers.plan is not None else ()
        return saved_config(papers.run, store.url, *overrides, *planned)
    if not examined.tars or not any(overrides):
        raise ConfigError(
            f"{RUN_NAME} of {store.url} cannot be read and no manifest holds its content: give "
            "the settings of the run again, with --config FILE or --set such as --set model.id=mini"
        )
    config, _ = open_tokens(build_config(*overrides, {"out": store.url}))
    marks = {r.record.fingerprint for r in examined.results.values() if r.record is not None}
    plan = papers.plan
    if (
        plan is not None
        and marks
        and marks != {fingerprint(config, inputs_of(config, plan.inputs))}
    ):
        raise ConfigError(
            f"the settings that were given are not those that the shards in {store.url} were made "
            "with: give those of the run, all of them"
        )
    return config


def _records_before(examined: Examined) -> dict[int, ShardRecord]:
    """What is known of the shards as they were, by index."""
    manifest = examined.papers.manifest
    listed = manifest.records if manifest is not None else {}
    found = {i: r.record for i, r in examined.results.items() if r.record is not None}
    return {**listed, **found}


def _only_record_is_damaged(result: ShardResult) -> bool:
    name = record_name(result.index)
    known = result.record is not None and bool(result.findings)
    return known and all(finding.file == name for finding in result.findings)


def _restore_records(store: Store, examined: Examined) -> list[int]:
    """Writes the records that alone are damaged: the manifest knows them, and the files fit."""
    indices = []
    for index, result in sorted(examined.results.items()):
        if result.record is not None and _only_record_is_damaged(result):
            store.put(record_name(index), record_to_json(result.record))
            indices.append(index)
    return indices


def _to_make(examined: Examined) -> list[int]:
    """Shards that are missing, or damaged in more than their record."""
    results = {index: examined.results.get(index) for index in sorted(examined.tars)}
    return [
        index
        for index, result in results.items()
        if result is None or (result.findings and not _only_record_is_damaged(result))
    ]


def _collect(
    store: Store, found: Verification, agree: Callable[[Sequence[Finding]], bool]
) -> tuple[str, ...]:
    """Removes what nothing knows, once that was agreed to; names what was removed."""
    removable = [finding for finding in found.findings if finding.kind in REMOVABLE]
    if not removable or not agree(removable):
        return ()
    store.sweep()
    for finding in removable:
        store.delete(finding.file)
    return tuple(finding.file for finding in removable)
