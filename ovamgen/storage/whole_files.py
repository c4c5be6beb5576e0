"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ovamgen.errors import ConfigError

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


def write_whole(
    path: Path,
    content: bytes | Callable[[BinaryIO], object],
    *,
    make_folder: bool = False,
    durable: bool = False,
    name: str = "",
) -> None:
    """Writes a file: readers see all of it, or what was there before.

    Args:
        path: the file; an existing one is replaced.
        content: its bytes, or what writes them.
        make_folder: make the folder where there is none.
        durable: wait until the disk has the content, so that a power cut leaves no part of it.
        name: what messages call it; its path where not given.

    Raises:
        ConfigError: the place cannot be written.
    """
    temporary = _beside(path)
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"{name or path} cannot be written: {error.strerror or error}") from None
    finally:
        # what is no folder holds no file either: the reason above is the one to tell
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_place(path: Path) -> None:
    """Checks that `write_whole` could write the file: to be asked before long work.

    Raises:
        ConfigError: the place cannot be written.
    """
    temporary = _beside(path)
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder, a file is needed")
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what `write_whole` had not renamed yet."""
    return _TEMPORARY.fullmatch(name) is not None


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
