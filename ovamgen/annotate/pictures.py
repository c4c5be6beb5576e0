"""Pictures from outside: their size, and the foreground of a PNG, before anything is trusted."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from ovamgen.errors import ConfigError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 24


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a PNG file, in pixels, from its header.

    Raises:
        ConfigError: no such file, or no PNG.
    """
    try:
        with path.open("rb") as file:
            return _size(file.read(_HEADER_BYTES), str(path))
    except FileNotFoundError:
        raise ConfigError(f"the image {path} does not exist: draw it again") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def foreground(data: bytes, size: tuple[int, int], name: str) -> Bool[np.ndarray, "H W"]:
    """Where a PNG is anything but black or transparent (in a palette: anything but entry 0).

    Args:
        data: The file's bytes.
        size: Height and width that it must have; compared before a pixel is decoded, so that a
            small file cannot grow into a large picture.
        name: What to call it in errors.

    Raises:
        ConfigError: no PNG, a damaged one, or one of another size.
    """
    if (came := _size(data[:_HEADER_BYTES], name)) != size:
        raise ConfigError(
            f"{name} must be {size[0]}x{size[1]} pixels (height x width) as its image is, got "
            f"{came[0]}x{came[1]}"
        )
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            return _values(picture) > 0
    except (OSError, SyntaxError, ValueError, zlib.error, struct.error) as error:
        raise ConfigError(f"{name} must be a whole PNG, it cannot be decoded: {error}") from None


def _values(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("L", "I", "I;16", "P") and "transparency" not in picture.info:
        return np.asarray(picture).astype(np.int64)
    if picture.mode == "1":
        return np.asarray(picture.convert("L")).astype(np.int64)
    # methods 7.1: the sum of the channels
    channels = np.asarray(picture.convert("RGBA")).astype(np.int64)
    return channels[..., :3].sum(axis=2) * (channels[..., 3] > 0)


def _size(header: bytes, name: str) -> tuple[int, int]:
    if not header.startswith(_SIGNATURE) or header[12:16] != b"IHDR" or len(header) < _HEADER_BYTES:
        raise ConfigError(f"{name} must be a PNG, it starts with {header[:8]!r}")
    width, height = struct.unpack(">II", header[16:24])
    return height, width
