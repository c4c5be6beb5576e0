"""A view: which samples of a corpus count, kept beside the corpus and without a copy of its shards.

``ovamgen select`` writes views; the readers of shards understand their folder in place of a run's.
No torch, and no pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ovamgen.bounds import MAX_KEY_DIGITS, MAX_MARK_BYTES, MAX_VIEW_ROWS
from ovamgen.errors import ConfigError, ShardError
from ovamgen.records import ShardRecord
from ovamgen.shards.output_files import KEYS_NAME, SELECTION_NAME, SELECTION_TABLE_NAME
from ovamgen.shards.tables import read_columns
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.store import Store, open_store

VIEW_KIND = "ovamgen-view-v1"
_SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False), pa.field("kept", pa.bool_(), nullable=False)]
)
_KEYS = rf"^[0-9]{{{MAX_KEY_DIGITS}}}$"
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, ShardError)
"""What parsing the files of a view raises on damaged ones."""


class Keys:
    """A set of sample keys that needs only the bytes of the keys; travels to other processes."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Takes the keys in any order; repeated ones count once."""
        self._keys = np.unique(np.array([key.encode() for key in keys], dtype=bytes))

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        """Ascending."""
        return (key.decode() for key in self._keys)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        wanted = np.bytes_(key.encode())
        place = int(np.searchsorted(self._keys, wanted))
        return place < len(self._keys) and bool(self._keys[place] == wanted)

    def of_shard(self, shard_index: int) -> Keys:
        """Those of one shard: a key begins with the six digits of its shard."""
        first, after = (f"{index:06d}".encode() for index in (shard_index, shard_index + 1))
        start, stop = np.searchsorted(self._keys, np.array([first, after], dtype=bytes))
        part = Keys(())
        part._keys = self._keys[start:stop]
        return part

    def digest(self) -> str:
        """sha256 (hex) of the keys, one a line."""
        digest = hashlib.sha256()
        for key in self._keys:
            digest.update(bytes(key) + b"\n")
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """Samples of a corpus that were selected."""

    source: str
    """The folder or URL of the corpus."""
    keys: Keys
    shards: dict[int, str]
    """sha256 of every tar of the source, by shard index, as it was when the view was made."""
    info: dict[str, Any]
    """The content of ``selection.json``."""

    def check(self, records: Iterable[ShardRecord]) -> None:
        """Raises ShardError where a shard of the view is gone or has other bytes by now."""
        now = {record.shard_index: record.sha256 for record in records}
        changed = sorted(index for index, digest in self.shards.items() if now.get(index) != digest)
        if changed:
            shown = ", ".join(str(index) for index in changed[:5])
            raise ShardError(
                f"the view was made of shards that {self.source} no longer has as they were (shard "
                f"{shown}{', ...' if len(changed) > 5 else ''}): run 'ovamgen select' again"
            )


def read_view(url: str, source: str | None = None) -> View | None:
    """The view in a folder, None where the folder is something else, such as a run.

    A view may come from anybody, and what it says is its source is followed only to a folder
    beside it.

    Args:
        url: the folder.
        source: the corpus, as the user names it; None: the one beside the view.

    Raises:
        ConfigError: its corpus is not beside it and was not named.
        ShardError: the view is damaged.
    """
    store = open_store(url)
    if not store.exists(SELECTION_NAME):
        return None
    try:
        info = load_plain_json(store.read(SELECTION_NAME, MAX_MARK_BYTES))
        if info["kind"] != VIEW_KIND:
            return None
        named = source if source is not None else _beside(store, str(info["source"]))
        shards = {int(index): str(digest) for index, digest in info["shards"].items()}
        wanted, digest = int(info["samples"]), str(info["keys_sha256"])
        if not isinstance(info["settings"], dict) or not isinstance(info.get("parents", []), list):
            raise ValueError("its settings are no object, or its parents no list")
        with store.open(SELECTION_TABLE_NAME) as file:
            rows = read_columns(file, SELECTION_TABLE_NAME, _SCHEMA, MAX_VIEW_ROWS)
        kept = rows.column("key").filter(rows.column("kept"))
        if not pc.all(pc.match_substring_regex(kept, _KEYS), min_count=0).as_py():
            raise ValueError(f"its keys must be {MAX_KEY_DIGITS} digits")
    except _DAMAGED as error:
        raise ShardError(
            f"the view in {store.url} is damaged ({error}): run 'ovamgen select' again"
        ) from None
    keys = Keys(kept.to_pylist())
    if len(keys) != wanted or keys.digest() != digest:
        raise ShardError(
            f"{SELECTION_TABLE_NAME} in {store.url} must hold the {wanted} keys that "
            f"{SELECTION_NAME} records, got {len(keys)} that differ from them: run 'ovamgen "
            "select' again"
        )
    return View(source=named, keys=keys, shards=shards, info=info)


def write_view(
    store: Store, source: Store, keys: Keys, table: pa.Table, info: dict[str, Any]
) -> None:
    """Writes a view; ``selection.json`` comes last.

    Args:
        store: where the view goes.
        source: the corpus that the keys are of.
        keys: those that are kept.
        table: the content of ``selection.parquet``; columns ``key`` and ``kept`` among others.
        info: what else ``selection.json`` is to hold.
    """
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.put(SELECTION_TABLE_NAME, buffer.getvalue())
    store.put(KEYS_NAME, "".join(f"{key}\n" for key in keys).encode())
    data = info | {
        "kind": VIEW_KIND,
        "source": _relative(store, source.url),
        "samples": len(keys),
        "keys_sha256": keys.digest(),
    }
    store.put(SELECTION_NAME, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def _relative(store: Store, source: str) -> str:
    """Folders are named from the view, so that the two can be moved together."""
    is_remote = "://" in source or "://" in store.url
    return source if is_remote else os.path.relpath(source, store.url)


def is_beside(store: Store, source: Store) -> bool:
    """Whether a view's corpus lies beside it, so that it is found without being named."""
    return _place_beside(store, _relative(store, source.url)) is not None


def _beside(store: Store, source: str) -> str:
    """The folder that a view names, if it lies where the view does: the two are moved together."""
    path = _place_beside(store, source)
    if path is None:
        raise ConfigError(
            f"the view in {store.url} says that it is of the corpus in {source!a:.200}, which is "
            "not in a folder beside it: it is not looked at unless you name it, with --source"
        )
    if "://" not in path and not os.path.isdir(path):
        raise ConfigError(
            f"the view in {store.url} is of the corpus in {path!a:.200}, which is not there: the "
            "two must be moved together; put it back, name it with --source, or run "
            "'ovamgen select' again"
        )
    return path


def _place_beside(store: Store, source: str) -> str | None:
    """The path or URL of what a view names, None where that is not in the folder around it."""
    scheme, separator, root = store.url.rpartition("://")
    if separator and source.startswith(f"{scheme}://"):
        # views in a bucket name their corpus in full
        path = os.path.normpath(source.removeprefix(f"{scheme}://"))
    elif "://" in source or "\0" in source or os.path.isabs(source):
        return None
    else:
        path = os.path.normpath(os.path.join(root, source))
    around = os.path.dirname(os.path.normpath(root))
    if around not in _parents(path) or path == os.path.normpath(root):
        return None
    return f"{scheme}://{path}" if separator else path


def _parents(path: str) -> Iterator[str]:
    """The folders that a normal path lies in, the nearest first."""
    while (parent := os.path.dirname(path)) not in (path, ""):
        yield parent
        path = parent
