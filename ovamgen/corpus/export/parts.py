"""What an export has of each shard so far: lines of text, and the shard counts once all are there.

Lists and tables of a whole corpus are joined out of these, so that neither a killed process nor a
large corpus begins them twice or holds them in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ovamgen.shards.output_files import EXPORT_PARTS
from ovamgen.storage.whole_files import flush, put_in_place

T = TypeVar("T")

SAMPLES = "samples"
"""The lines that every export has: split and key of each sample."""


class Part:
    """The lines of one shard while they are written."""

    def __init__(self, shard_index: int, folder: Path, files: ExitStack) -> None:
        self.shard_index = shard_index
        self._folder = folder
        self._files = files
        self._open: dict[str, Any] = {}

    def add(self, stream: str, line: str) -> None:
        """Appends a line, without its end, to one of the shard's streams."""
        file = self.opened(stream, lambda: (self._folder / stream).open("wb"))
        file.write(line.encode() + b"\n")

    def opened(self, name: str, make: Callable[[], AbstractContextManager[T]]) -> T:
        """What ``make`` opens, made once for a name and closed with the shard."""
        if name not in self._open:
            self._open[name] = self._files.enter_context(make())
        opened: T = self._open[name]
        return opened


class Parts:
    """The lines of all shards, in a folder that is gone once the export is whole."""

    def __init__(self, root: Path) -> None:
        self._folder = root / EXPORT_PARTS
        self._folder.mkdir(parents=True, exist_ok=True)

    def has(self, shard_index: int) -> bool:
        """Whether a shard is done."""
        return self._of(shard_index).is_dir()

    @contextmanager
    def writing(self, shard_index: int, before_it_counts: Callable[[], None]) -> Iterator[Part]:
        """A shard's part, which counts once the block has ended well.

        Args:
            shard_index: of the shard.
            before_it_counts: called when all that was opened for the shard is closed.
        """
        temporary = self._folder / f".{shard_index:06d}"
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir()
        with ExitStack() as files:
            yield Part(shard_index, temporary, files)
        before_it_counts()
        for path in temporary.iterdir():
            flush(path)
        flush(temporary)
        put_in_place(temporary, self._of(shard_index))

    def lines(self, stream: str) -> Iterator[str]:
        """The lines of a stream, without their ends, in the order of the shards."""
        for folder in sorted(self._folder.iterdir()):
            path = folder / stream
            if not folder.name.startswith(".") and path.exists():
                with path.open(encoding="utf-8", newline="\n") as file:
                    for line in file:
                        yield line.removesuffix("\n")

    def samples(self) -> Iterator[tuple[str, str]]:
        """Split and key of every sample, by ascending key."""
        for line in self.lines(SAMPLES):
            split, _, key = line.partition(" ")
            yield split, key

    def remove(self) -> None:
        """Removes them all."""
        shutil.rmtree(self._folder)

    def _of(self, shard_index: int) -> Path:
        return self._folder / f"{shard_index:06d}"
