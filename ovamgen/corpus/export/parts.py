"""What an export has of each shard so far: lines of text, and the shard counts once all are there.

Lists and tables of a whole corpus are joined out of these, so that neither a killed process nor a
large corpus begins them twice or holds them in memory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from ovamgen.shards.output_files import EXPORT_PARTS

SAMPLES = "samples"
"""The lines that every export has: split and key of each sample."""


class Part:
    """The lines of one shard while they are written."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self._folder = folder
        self._files = files
        self._open: dict[str, BinaryIO] = {}

    def add(self, stream: str, line: str) -> None:
        """Appends a line, without its end, to one of the shard's streams."""
        if stream not in self._open:
            path = self._folder / stream
            self._open[stream] = self._files.enter_context(path.open("wb"))
        self._open[stream].write(line.encode() + b"\n")


class Parts:
    """The lines of all shards, in a folder that is gone once the export is whole."""

    def __init__(self, root: Path) -> None:
        self._folder = root / EXPORT_PARTS
        self._folder.mkdir(parents=True, exist_ok=True)

    def has(self, shard_index: int) -> bool:
        """Whether a shard is done."""
        return self._of(shard_index).is_dir()

    @contextmanager
    def writing(self, shard_index: int) -> Iterator[Part]:
        """A shard's part, which counts once the block has ended well."""
        temporary = self._folder / f".{shard_index:06d}"
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir()
        with ExitStack() as files:
            yield Part(temporary, files)
        os.replace(temporary, self._of(shard_index))

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
