"""Arrays in .npz files of other programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ovamgen.errors import ConfigError
from ovamgen.storage.damaged_files import BROKEN_ARRAYS

Array = np.ndarray[Any, np.dtype[Any]]

_LARGEST_ARRAY_BYTES = 256 * 1024**2
"""A few bytes of an archive may stand for gigabytes."""


def array_names(path: str | Path) -> list[str]:
    """The names of the arrays in an .npz file.

    Raises:
        ConfigError: it cannot be read as one.
    """
    with _open_npz(path) as archive:
        return list(archive.files)


def read_array(path: str | Path, name: str, shape: tuple[int | None, ...]) -> Array:
    """A float32 array of an .npz, of a shape with free sizes where None stands.

    Raises:
        ConfigError: it cannot be read, or holds no such array of finite floats.
    """
    with _open_npz(path) as archive:
        if name not in archive.files:
            raise ConfigError(
                f"{path} must hold the array '{name}', got {', '.join(archive.files) or 'none'}"
            )
        try:
            unpacked = archive.zip.getinfo(f"{name}.npy").file_size
            if unpacked > _LARGEST_ARRAY_BYTES:
                raise ValueError(f"{unpacked} bytes are more than {_LARGEST_ARRAY_BYTES}")
            array = archive[name]
        except BROKEN_ARRAYS as error:
            raise ConfigError(f"'{name}' in {path} cannot be read: {error}") from None
    fits = len(array.shape) == len(shape) and all(
        size > 0 if wanted is None else size == wanted
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind != "f":
        wanted_shape = ", ".join("any" if size is None else str(size) for size in shape)
        raise ConfigError(
            f"'{name}' in {path} must be floats of shape ({wanted_shape}), got {array.dtype} "
            f"{array.shape}"
        )
    if not np.isfinite(array).all():
        raise ConfigError(f"'{name}' in {path} must be finite, got NaN or infinite numbers")
    return np.ascontiguousarray(array, np.float32)


@contextlib.contextmanager
def _open_npz(path: str | Path) -> Iterator[Any]:
    """The archive while it is open; numpy would leave the file open where it is no archive."""
    try:
        file = Path(path).open("rb")  # noqa: SIM115  # closed below
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: give an .npz file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    with file:
        try:
            archive = np.load(file, allow_pickle=False)
        except BROKEN_ARRAYS as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{path} must be an .npz file: {reason}") from None
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ConfigError(f"{path} must be an .npz file of named arrays, got a single array")
        yield archive
