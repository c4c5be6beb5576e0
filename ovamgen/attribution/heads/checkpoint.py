"""Checkpoints of PyTorch read as tensors by name and nothing else; no pickle is executed.

torch's own restricted reader (``weights_only``) knows the names that tensors need and refuses all
others. What it leaves open is closed here: archives that unpack to more than they hold, tensors
that claim more numbers than the file has, and anything that is no tensor.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ovamgen.errors import ConfigError
from ovamgen.storage.damaged_files import BROKEN_PICKLE

_LARGEST_FILE_BYTES = 1024**3
_MOST_TENSORS = 10_000
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_PARALLEL = "module."
_MALFORMED = (*BROKEN_PICKLE, zipfile.BadZipFile, RuntimeError, OSError, AssertionError)
"""What a damaged or foreign archive makes zipfile and torch raise."""


def is_checkpoint(file: Path) -> bool:
    """Whether a file begins as a checkpoint of PyTorch or a bare pickle does."""
    try:
        with file.open("rb") as opened:
            start = opened.read(len(_ZIP))
    except OSError:
        return False
    return start == _ZIP or start.startswith(_PICKLE)


def read_checkpoint(file: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU; a prefix ``module.`` of all is taken off.

    Args:
        file: what ``torch.save(network.state_dict(), file)`` wrote, since PyTorch 1.6.
        name: what messages call it.

    Raises:
        ConfigError: it is no such file, too large, or holds anything but tensors of floats; a name
            that its pickle asks for is told, and nothing was executed.
    """
    try:
        _check_archive(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
        state = _as_state(content)
    except _MALFORMED as error:
        raise ConfigError(
            f"{name} was refused: a checkpoint of tensors by name is all that is read "
            f"({_reason(error)}); nothing in it was executed"
        ) from None
    if state and all(key.startswith(_PARALLEL) for key in state):
        state = {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    return state


def _check_archive(file: Path) -> None:
    """Refuses what is no archive as PyTorch writes it, before any of it is unpacked.

    Raises:
        ValueError: see above.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError("it is a bare pickle or damaged: PyTorch 1.6 and later write zip archives")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its entries are compressed, which PyTorch does not do")
    if sum(entry.file_size for entry in entries) > _LARGEST_FILE_BYTES:
        raise ValueError(f"it holds more than {_LARGEST_FILE_BYTES} bytes")


def _as_state(content: object) -> dict[str, Tensor]:
    """The content as tensors by name.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(content, Mapping) or not 0 < len(content) <= _MOST_TENSORS:
        raise ValueError(f"tensors by name expected, got a {type(content).__name__}")
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(f"{key!r:.60} is a {type(value).__name__}, tensors by name expected")
        if (
            value.layout != torch.strided
            or value.device.type != "cpu"
            or not value.dtype.is_floating_point
        ):
            raise ValueError(f"{key:.60} is no plain tensor of floats")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{key:.60} claims more numbers than the file has for it")
        state[key] = value.detach()
    return state


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    # torch's own message goes on to advise what must not be done
    if found := re.search(r"(?:GLOBAL|global|class) ([\w.]+)", text):
        return f"it asks for {found[1]}"
    return text[:160] or type(error).__name__
