"""A view, verified: its keys and tables, and whether the shards are still those it was made of."""

from __future__ import annotations

from collections.abc import Mapping

from ovamgen.corpus.view import read_view
from ovamgen.errors import OvamgenError, ShardError
from ovamgen.integrity.findings import Findings, Verification
from ovamgen.integrity.output_kinds import unknown_files
from ovamgen.shards.output_files import (
    INCOMPLETE_NAME,
    KEYS_NAME,
    SELECTION_NAME,
    SELECTION_TABLE_NAME,
)
from ovamgen.shards.shard_record import read_records
from ovamgen.storage.store import Store, open_store

MAX_KEYS_BYTES = 4 * 1024**3


def verify_view(store: Store, names: Mapping[str, int], source: str | None = None) -> Verification:
    """What is wrong with a view; the shards themselves are those of another output."""
    findings = Findings()
    samples, shards = 0, 0
    notes = [
        f"the values in {SELECTION_NAME} and {SELECTION_TABLE_NAME} that are no keys were not "
        "checked"
    ]
    try:
        view = read_view(store.url, source)
        if view is None:
            raise ShardError(f"{SELECTION_NAME} is of another kind")
        samples, shards = len(view.keys), len(view.shards)
        notes.append(f"the shards are those of {view.source}: verify that as well")
        keys = "".join(f"{key}\n" for key in view.keys).encode()
        if KEYS_NAME not in names:
            findings.add(KEYS_NAME, "the keys of the view", "no such file", "missing")
        elif store.read(KEYS_NAME, MAX_KEYS_BYTES) != keys:
            findings.add(KEYS_NAME, "the keys of the view", "others")
        corpus = open_store(view.source)
        corpus.check_regular()
        view.check(read_records(corpus).values())
    except OvamgenError as error:
        findings.add(SELECTION_NAME, "a view of shards that are there", error)
    for name in unknown_files("view", names, {}):
        findings.add(name, "no file but those of the view", f"{names[name]} bytes", "orphan")
    unfinished = INCOMPLETE_NAME in names
    mend = "run the 'ovamgen select' again that wrote it" if len(findings) or unfinished else ""
    return Verification(
        out=store.url,
        layout="view",
        state="unfinished" if unfinished else "complete",
        running=store.holder() is not None,
        shards=shards,
        samples=samples,
        bytes_checked=sum(names.values()),
        findings=findings.all(),
        notes=tuple(notes),
        mend=mend,
    )
