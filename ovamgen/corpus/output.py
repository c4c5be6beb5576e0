"""Taking an output folder: an empty one, or the one that the same command began before.

A file says that the folder is being filled, another that it is whole; nothing in between can be
taken for a result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ovamgen.bounds import MAX_MARK_BYTES
from ovamgen.errors import ConfigError, ShardError
from ovamgen.shards.output_files import INCOMPLETE_NAME
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.store import Store


@contextmanager
def filling(store: Store, mark: str, request: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
    """The folder, locked, with what is to go into it written down; None unless it is whole already.

    Where the block ends well, ``mark`` must have been written by it, and the folder counts as
    whole. Where it does not, the same request goes on later.

    Args:
        store: the output.
        mark: name of the JSON file that a whole folder has; its ``request`` says what was asked.
        request: what is asked, plain values; decides whether two commands are the same.

    Raises:
        ConfigError: the folder holds something else.
    """
    with store.lock():
        store.sweep()
        saved = _read(store, mark)
        if saved is not None:
            if saved.get("request") != request:
                raise _foreign(store, _differing(saved.get("request"), request))
            if not store.exists(INCOMPLETE_NAME):
                yield saved
                return
        begun = _read(store, INCOMPLETE_NAME)
        if begun is not None and begun != request:
            raise _foreign(store, _differing(begun, request))
        if begun is None and saved is None:
            if files := store.list():
                raise _foreign(store, f"it holds {files[0]}")
            store.put(INCOMPLETE_NAME, _json(request))
        try:
            yield None
            assert store.exists(mark), f"{mark} is written by whoever fills the folder"
            store.delete(INCOMPLETE_NAME)
        except ConfigError:
            if begun is None and store.list() == [INCOMPLETE_NAME]:
                # nothing was begun: the folder is as empty as it was
                store.delete(INCOMPLETE_NAME)
            raise
        finally:
            store.sweep()


def write_mark(store: Store, mark: str, request: dict[str, Any], data: dict[str, Any]) -> None:
    """Writes the file that makes a folder whole."""
    store.put(mark, _json({**data, "request": request}))


def _read(store: Store, name: str) -> dict[str, Any] | None:
    if not store.exists(name):
        return None
    try:
        data = load_plain_json(store.read(name, MAX_MARK_BYTES))
    except (ValueError, ShardError):
        data = None
    if not isinstance(data, dict):
        raise ConfigError(f"{store.url}/{name} is damaged: give another --out, or empty the folder")
    return data


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _differing(saved: Any, request: dict[str, Any]) -> str:
    old = saved if isinstance(saved, dict) else {}
    names = sorted(name for name in old.keys() | request if old.get(name) != request.get(name))
    return "it was made with other " + ", ".join(names)


def _foreign(store: Store, reason: str) -> ConfigError:
    return ConfigError(
        f"{store.url} must be empty or hold what the same command made ({reason}): "
        "give another --out"
    )
