"""What a store of a run's files can do; the rest of the package knows stores by this alone."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, ClassVar

from ovamgen.errors import ConfigError, ShardError

MAX_WHOLE_BYTES = 1024**3
"""Bytes of a file that is read whole, at most: corpora come from anybody."""


class Store(ABC):
    """A flat set of named files; instances travel to other processes by pickle.

    Names that begin with a dot belong to the store itself and are never listed.
    """

    readers: ClassVar[int] = 32
    """Small files worth reading at once: on an object store each is a round trip."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is, as `open_store` takes it."""

    @abstractmethod
    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every file whose name starts with the prefix, by ascending name: one listing."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of the file, None where there is none."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """The file for reading, seekable; ShardError where there is none."""

    @abstractmethod
    def publish_file(self, path: Path, name: str) -> None:
        """Make a finished file of this store's scratch visible under the name, durable first."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write the file, or replace it; readers see the old content or the new."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write the file only if there is none; False, and nothing changed, where there is one.

        Of an object store, True may mean that one of the same content was there: whether an earlier
        request or another process wrote it cannot be told where an answer was lost.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove the file, if it is there."""

    @abstractmethod
    def scratch(self) -> AbstractContextManager[Path]:
        """A local folder of this attempt alone, gone after the block; files to publish go here."""

    @abstractmethod
    def sweep(self) -> int:
        """The number of dead attempts whose left-over scratch was removed; living ones stay."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Keeps a second run off the store while the block lasts.

        Raises:
            ConfigError: another run holds it; it is named.
        """

    @abstractmethod
    def holder(self) -> str | None:
        """Who holds the lock, such as ``process 7 on node1``; None where no run is going on."""

    def leftovers(self) -> list[str]:
        """What dead attempts left behind, ascending: what `sweep` or `delete` removes by name."""
        return []

    def irregular(self) -> dict[str, str]:
        """What is neither a file nor a folder, such as ``a symbolic link``, by ascending name."""
        return {}

    def check_regular(self) -> None:
        """Checks that there are files and folders alone: a link may lead anywhere.

        Raises:
            ConfigError: there is something else; it is named.
        """
        if found := self.irregular():
            named = [f"{name} is {kind}" for name, kind in found.items()]
            more = f" and {len(named) - 5} more" if len(named) > 5 else ""
            raise ConfigError(
                f"{self.url} must hold files and folders alone, but {', '.join(named[:5])}{more}: "
                "nothing in an output is reached through a link; remove it, or put the file itself "
                "there"
            )

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return self.size(name) is not None

    def list(self, prefix: str = "") -> list[str]:
        """Names of the files that start with the prefix, ascending."""
        return [*self.sizes(prefix)]

    def read(self, name: str, most_bytes: int = MAX_WHOLE_BYTES) -> bytes:
        """The file's content.

        Raises:
            ShardError: there is none, or it is larger than ``most_bytes``.
        """
        with self.open(name) as file:
            self._check_size(name, file.seek(0, os.SEEK_END), most_bytes)
            file.seek(0)
            return file.read()

    def _check_size(self, name: str, size_bytes: int, most_bytes: int) -> None:
        if size_bytes > most_bytes:
            raise ShardError(
                f"{name} in {self.url} must have at most {most_bytes} bytes, it has {size_bytes}: "
                "it is damaged, or not what ovamgen writes"
            )


def parts_of(name: str) -> list[str]:
    """The parts of a file's name between its slashes.

    Raises:
        ShardError: the name could lead out of the store.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise ShardError(f"a name in a store must be relative, like 'a/b', got {name!a}")
    return parts


def this_process() -> str:
    """How this process is named to others: ``process 7 on node1``."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def held_by(url: str, holder: str | None) -> ConfigError:
    """The refusal of a second run on one store; None where the first has ended meanwhile."""
    return ConfigError(
        f"another run is writing to {url} ({holder or 'it has just ended'}): "
        "wait for it, stop it, or give another --out"
    )
