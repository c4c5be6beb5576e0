"""What a disk holds after a power cut, from the operations of a process as `shim.c` logs them.

Only what was flushed is sure: a file's content with the file, a name with its folder. Two worst
cases are told apart: the disk has no name that was not flushed, and it has every name and none of
the content that was not.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

State = dict[str, bytes | None]
"""Content by path, relative to the folder that was watched; None for a folder."""


@dataclass
class _Node:
    """A file or a folder, whatever its names are."""

    flushed: bytes | None = b""
    """Content on the disk; None for a folder."""
    names: dict[str, _Node] = field(default_factory=dict)
    sure: dict[str, _Node] = field(default_factory=dict)
    """Of a folder: the names in it, now and on the disk."""


class Disk:
    """A folder as a process changes it."""

    def __init__(self, root: Path) -> None:
        """What is in the folder now, all of it flushed."""
        self._root = root
        self._top = _read(root) if root.is_dir() else _Node(flushed=None)

    def replay(self, log: Path) -> Iterator[tuple[int, State, State]]:
        """After each operation its number and the two worst cases: names lost, content lost."""
        for number, line in enumerate(log.read_text().splitlines()):
            what, one, other = line.split("\t")
            # what is logged may have failed: there was no such file
            with suppress(KeyError):
                self._apply(what, one, other, Path(f"{log}.{number}"))
            yield number, self._state(self._top, sure=True), self._state(self._top, sure=False)

    def _apply(self, what: str, one: str, other: str, content: Path) -> None:
        if not Path(one).is_relative_to(self._root):
            # a second name of a file that lies elsewhere, on the disk since it was written
            into, new = self._place(other)
            into.names.setdefault(new, _read(Path(one)))
            return
        above, name = self._place(one)
        if what == "create":
            above.names[name] = _Node()
        elif what.startswith("mkdir"):
            if name:
                above.names.setdefault(name, _Node(flushed=None))
        elif what.startswith("rename"):
            into, new = self._place(other)
            into.names[new] = above.names.pop(name)
        elif what.startswith("link"):
            into, new = self._place(other)
            into.names.setdefault(new, above.names[name])
        elif what.startswith(("unlink", "rmdir")):
            del above.names[name]
        elif what == "fsync":
            node = above.names[name] if name else above
            if node.flushed is None:
                node.sure = dict(node.names)
            else:
                node.flushed = content.read_bytes()

    def _place(self, path: str) -> tuple[_Node, str]:
        """The folder that a path is in, and its last part; "" for the folder itself."""
        parts = Path(path).relative_to(self._root).parts
        node = self._top
        for part in parts[:-1]:
            node = node.names[part]
        return node, parts[-1] if parts else ""

    def _state(self, node: _Node, *, sure: bool, path: str = "") -> State:
        found: State = {path: node.flushed}
        for name, inner in (node.sure if sure else node.names).items():
            found |= self._state(inner, sure=sure, path=f"{path}/{name}" if path else name)
        return found


def write_state(state: State, root: Path) -> None:
    """Makes a folder hold what a disk held."""
    shutil.rmtree(root, ignore_errors=True)
    for name, content in sorted(state.items()):
        if content is None:
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).write_bytes(content)


def _read(path: Path) -> _Node:
    if not path.is_dir():
        return _Node(flushed=path.read_bytes())
    names = {inner.name: _read(inner) for inner in path.iterdir()}
    return _Node(flushed=None, names=names, sure=dict(names))
