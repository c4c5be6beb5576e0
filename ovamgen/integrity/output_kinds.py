"""What kind of output a store holds, and which of its files belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovamgen.bounds import MAX_MARK_BYTES
from ovamgen.corpus.view import VIEW_KIND
from ovamgen.errors import ConfigError, ShardError
from ovamgen.shards.output_files import (
    EXPORT_NAME,
    FILES,
    FOLDERS,
    INCOMPLETE_NAME,
    MANIFEST_NAME,
    PLAN_NAME,
    RECORDS,
    RUN_NAME,
    SELECTION_NAME,
    Layout,
    metadata_name,
    plan_name,
    record_name,
    run_name,
)
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.store import Store


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
    if EXPORT_NAME in names:
        if not has_shards and MANIFEST_NAME not in names:
            raise ConfigError(
                f"{store.url} is an export in the layout of another tool, which has no records to "
                "be verified by: verify the corpus that it is of, and export again if in doubt"
            )
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


def unknown_files(layout: Layout, names: Iterable[str], shards: Mapping[int, str]) -> list[str]:
    """The files that nothing in the output knows, ascending.

    Args:
        layout: of the output.
        names: its files.
        shards: name of the tar of every shard that there is or will be, by index.
    """
    known = {*FILES[layout], *shards.values()}
    for index in shards:
        known |= {record_name(index), metadata_name(index)}
    names, number = frozenset(names), 1
    while layout == "run" and (own := names & {plan_name(number), run_name(number)}):
        known |= own
        number += 1
    return sorted(n for n in names if n not in known and not n.startswith(FOLDERS[layout]))


def _is_view(store: Store, has_shards: bool) -> bool:
    try:
        kind = load_plain_json(store.read(SELECTION_NAME, MAX_MARK_BYTES))["kind"]
    except (ShardError, ValueError, KeyError, TypeError, RecursionError):
        return not has_shards
    return bool(kind == VIEW_KIND)
