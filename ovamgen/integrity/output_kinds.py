"""What kind of output a store holds, and which of its files belong to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from ovamgen.corpus.export.classes import CLASSES_NAME
from ovamgen.corpus.export.croissant import CROISSANT_NAME
from ovamgen.corpus.export.hf import MARK_NAME
from ovamgen.corpus.output import INCOMPLETE_NAME
from ovamgen.corpus.view import KEYS_NAME, SELECTION_NAME, TABLE_NAME, VIEW_KIND
from ovamgen.errors import ConfigError, ShardError
from ovamgen.generation import CONTACT_SHEET_NAME
from ovamgen.integrity.findings import Layout
from ovamgen.report.write import REPORT_NAME
from ovamgen.run.files import PLAN_NAME, RUN_NAME
from ovamgen.shards.manifest import INDEXES, MANIFEST_NAME
from ovamgen.shards.shard_record import RECORDS, metadata_name, record_name
from ovamgen.storage.store import Store

LOGS = "logs/"
"""What runs write down about themselves: no part of the corpus, and not looked at."""

MAX_MARK_BYTES = 64 * 1024**2

_OF_LAYOUT: dict[Layout, tuple[str, ...]] = {
    "run": (PLAN_NAME, RUN_NAME, *INDEXES, CONTACT_SHEET_NAME, REPORT_NAME),
    "reannotation": (PLAN_NAME, RUN_NAME, *INDEXES, REPORT_NAME),
    "selection": (SELECTION_NAME, INCOMPLETE_NAME, *INDEXES, REPORT_NAME),
    "view": (SELECTION_NAME, INCOMPLETE_NAME, TABLE_NAME, KEYS_NAME),
    "export": (MARK_NAME, INCOMPLETE_NAME, CLASSES_NAME, CROISSANT_NAME, *INDEXES, REPORT_NAME),
}
_FOLDERS: dict[Layout, tuple[str, ...]] = {
    "run": (LOGS,),
    "reannotation": (LOGS,),
    "selection": ("clip/",),
    "view": ("clip/",),
    "export": (),
}
_RECORD = re.compile(rf"{RECORDS}(\d{{6}})\.json")


def layout_of(store: Store, names: Mapping[str, int]) -> Layout:
    """The kind of output, from the files that are there, damaged ones included.

    A reannotation looks like a run here; its ``run.yaml`` tells.

    Raises:
        ConfigError: nothing that ovamgen wrote.
    """
    has_shards = any(name.startswith(RECORDS) for name in names)
    if RUN_NAME in names or PLAN_NAME in names:
        return "run"
    if SELECTION_NAME in names:
        return "view" if _is_view(store, has_shards) else "selection"
    if MARK_NAME in names:
        return "export"
    if INCOMPLETE_NAME in names:
        return "selection"
    if has_shards or MANIFEST_NAME in names:
        return "run"
    raise ConfigError(
        f"expected the folder of a run, or what select, reannotate or export wrote, got "
        f"{store.url} with {len(names)} files and none of {PLAN_NAME}, {RUN_NAME}, "
        f"{MANIFEST_NAME}: check the path"
    )


def recorded_indices(names: Iterable[str]) -> list[int]:
    """Indices of the shards that have a record, ascending."""
    return sorted(int(found[1]) for name in names if (found := _RECORD.fullmatch(name)))


def unknown_files(layout: Layout, names: Iterable[str], shards: Mapping[int, str]) -> list[str]:
    """The files that nothing in the output knows, ascending.

    Args:
        layout: of the output.
        names: its files.
        shards: name of the tar of every shard that there is or will be, by index.
    """
    known = {*_OF_LAYOUT[layout], *shards.values()}
    for index in shards:
        known |= {record_name(index), metadata_name(index)}
    return sorted(n for n in names if n not in known and not n.startswith(_FOLDERS[layout]))


def _is_view(store: Store, has_shards: bool) -> bool:
    try:
        kind = json.loads(store.read(SELECTION_NAME, MAX_MARK_BYTES))["kind"]
    except (ShardError, ValueError, KeyError, TypeError, RecursionError):
        return not has_shards
    return bool(kind == VIEW_KIND)
