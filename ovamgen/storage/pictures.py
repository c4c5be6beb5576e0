"""Somebody's pictures: a folder or a tar of them, local or behind a URL, read one at a time.

Only names and sizes are held. A folder may come from anybody, so that no link in it is followed,
only files are opened, and every read has a bound.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from ovamgen import mini
from ovamgen.bounds import MAX_MEMBER_BYTES, MAX_PICTURES, MAX_PIXELS, MAX_SIDE_PX
from ovamgen.errors import ConfigError, SampleError
from ovamgen.storage.damaged_files import BROKEN_PICTURE
from ovamgen.storage.filesystems import filesystem_of
from ovamgen.storage.plain_files import files_below, folder_below, open_plain
from ovamgen.storage.reading import read_file
from ovamgen.storage.retrying import Patience, RemoteError
from ovamgen.storage.tars import BROKEN_TAR, members_of
from ovamgen.storage.urls import LOCAL, scheme_of

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Endings of names that are taken for pictures, in any case."""
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
UNNAMED = "named by a corpus: "
"""Before a place that a corpus says its pictures are in: nothing is read there."""
_ORIENTATION = 0x0112
"""EXIF tag; 1 is upright."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPicture:
    """A picture that was read."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB, upright."""
    jpeg: bytes | None
    """The file itself, where it is a JPEG of these pixels as they stand."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PictureSource:
    """The pictures of a folder or a tar."""

    url: str
    sizes: Mapping[str, int]
    """Bytes of each picture, by its path below the folder or in the tar; names ascend."""
    links: int
    """Links to files that were left aside."""
    _open: Callable[[str, Callable[[Any], Any]], Any] = field(repr=False)
    """Gives an open file, by the picture's name, to what reads it."""

    @property
    def digest(self) -> str:
        """sha256 (hex) over names and sizes: what can be known without reading every picture."""
        lines = (f"{size} {name}\n" for name, size in self.sizes.items())
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def size_px(self, name: str) -> tuple[int, int]:
        """(height, width) of a picture, upright, from its header.

        Raises:
            SampleError: it is no picture, too large, or cannot be read.
        """
        return self._read(name, lambda file: _upright_size(_opened(file)))

    def read(self, name: str, size_bytes: int) -> OpenedPicture:
        """A picture.

        Args:
            name: one of `sizes`.
            size_bytes: that it had when it was planned.

        Raises:
            SampleError: it is gone or damaged, too large, or has another size by now.
        """
        if self.sizes.get(name) != size_bytes:
            there = self.sizes.get(name)
            now = "is gone" if there is None else f"has {there} bytes"
            raise SampleError(f"picture {name} {now}, {size_bytes} bytes were planned")
        data: bytes = self._read(name, lambda file: file.read(MAX_MEMBER_BYTES + 1))
        if len(data) != size_bytes or len(data) > MAX_MEMBER_BYTES:
            raise SampleError(
                f"picture {name} must have {size_bytes} bytes as planned, and at most "
                f"{MAX_MEMBER_BYTES}, got {len(data)}"
            )
        return self._named(name, lambda: decode_picture(data))

    def _read(self, name: str, work: Callable[[Any], Any]) -> Any:
        return self._named(name, lambda: self._open(name, work))

    def _named(self, name: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except RemoteError as error:
            raise SampleError(f"picture {name} cannot be read: {error.explanation}") from None
        except (*BROKEN_PICTURE, MemoryError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SampleError(f"picture {name} cannot be read as a picture: {reason}") from None


def open_picture_source(url: str) -> PictureSource:
    """The pictures in a folder and all folders below it, or in a tar.

    Args:
        url: a path, or any URL that fsspec opens; a tar by its ending ``.tar``; ``mini`` for the
            pictures that ship with the embedded model.

    Raises:
        ConfigError: it is not there, cannot be read, or holds no picture; or nobody but a corpus
            has named it.
    """
    if url.startswith(UNNAMED):
        place = url.removeprefix(UNNAMED)
        raise ConfigError(
            f"the pictures of a corpus are read where you say that they are, not where it says: "
            f"name them with --set label.pictures={place}"
        )
    try:
        if url == mini.NAME:
            source = _local_folder(str(mini.VOC / "JPEGImages"))
        elif url.lower().endswith(".tar"):
            source = _tar(url)
        else:
            source = _local_folder(url) if scheme_of(url) in LOCAL else _remote_folder(url)
    except RemoteError as error:
        raise ConfigError(f"the pictures in {url} cannot be listed: {error.explanation}") from None
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise ConfigError(
            f"the pictures in {url} cannot be listed: {reason}; a folder of pictures is needed, a "
            ".tar of them, or a URL of one"
        ) from None
    if not source.sizes:
        links = f" but {source.links} links, which are not followed" if source.links else ""
        raise ConfigError(
            f"{url} holds no picture{links}: names that end in {', '.join(ENDINGS)} are taken"
        )
    return source


def decode_picture(data: bytes) -> OpenedPicture:
    """The picture in the bytes of a file: JPEG, PNG, WebP, BMP or TIFF, the first of several.

    Transparent pixels become white; EXIF's orientation is undone.

    Raises:
        ValueError, OSError or another of `BROKEN_PICTURE`: it is damaged, or too large.
    """
    picture = _opened(io.BytesIO(data))
    plain = picture.format == "JPEG" and picture.mode == "RGB" and _is_upright(picture)
    upright = picture if _is_upright(picture) else ImageOps.exif_transpose(picture)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        behind = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(behind, upright.convert("RGBA"))
    elif upright.mode.startswith("I") or upright.mode == "F":
        # 16 bits and more: their conversion would cut and not scale
        raise ValueError(f"8 bits a channel expected, got the mode {upright.mode}")
    return OpenedPicture(image=np.array(upright.convert("RGB")), jpeg=data if plain else None)


def _opened(file: Any) -> Image.Image:
    picture = Image.open(file, formats=_FORMATS)
    if max(picture.size) > MAX_SIDE_PX or picture.width * picture.height > MAX_PIXELS:
        raise ValueError(
            f"at most {MAX_PIXELS} pixels, and {MAX_SIDE_PX} a side, got {picture.height} x "
            f"{picture.width}"
        )
    return picture


def _is_upright(picture: Image.Image) -> bool:
    return picture.getexif().get(_ORIENTATION, 1) == 1


def _upright_size(picture: Image.Image) -> tuple[int, int]:
    turned = picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return picture.size if turned else (picture.height, picture.width)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def _sorted(sizes: Mapping[str, int], url: str) -> dict[str, int]:
    if len(sizes) > MAX_PICTURES:
        raise ConfigError(
            f"{url} holds {len(sizes)} pictures, at most {MAX_PICTURES} are labelled in one run: "
            "divide them"
        )
    for name in sizes:
        if not name.isprintable():
            # it stands in tables and messages
            raise ConfigError(
                f"{url} holds a picture of the name {name!a:.80}: names must be printable Unicode, "
                "rename it"
            )
    return {name: sizes[name] for name in sorted(sizes)}


def _local_folder(url: str) -> PictureSource:
    root = Path(url.partition("://")[2] or url).expanduser()
    sizes, links = {}, 0
    with folder_below(root, ()) as descriptor:
        for name, entry in files_below(descriptor, "", lambda _: True):
            if not _is_picture(name):
                continue
            if entry.is_symlink():
                links += 1
            elif entry.is_file(follow_symlinks=False):
                sizes[name] = entry.stat(follow_symlinks=False).st_size

    def read(name: str, work: Callable[[Any], Any]) -> Any:
        *parts, last = name.split("/")
        with (
            folder_below(root, parts) as folder,
            os.fdopen(open_plain(last, folder=folder), "rb") as file,
        ):
            return work(file)

    return PictureSource(url=url, sizes=_sorted(sizes, url), links=links, _open=read)


def _remote_folder(url: str) -> PictureSource:
    filesystem, root = filesystem_of(url)
    found = Patience(scheme=scheme_of(url)).call(lambda: filesystem.find(root, detail=True))
    base = root.rstrip("/") + "/"
    sizes = {
        path.removeprefix(base): int(info["size"])
        for path, info in found.items()
        if path.startswith(base) and _is_picture(path) and info.get("size") is not None
    }

    def read(name: str, work: Callable[[Any], Any]) -> Any:
        return read_file(f"{url.rstrip('/')}/{name}", work)

    return PictureSource(url=url, sizes=_sorted(sizes, url), links=0, _open=read)


def _tar(url: str) -> PictureSource:
    try:
        places = read_file(url, _members)
    except BROKEN_TAR as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{url} cannot be read as a tar: {reason}") from None

    def read(name: str, work: Callable[[Any], Any]) -> Any:
        start, size = places[name]

        def part(file: Any) -> bytes:
            file.seek(start)
            data = file.read(size)
            # what follows is of other pictures, and read when they are asked for
            file.seek(0, os.SEEK_END)
            return data

        if size > MAX_MEMBER_BYTES:
            raise ValueError(f"at most {MAX_MEMBER_BYTES} bytes, got {size}")
        return work(io.BytesIO(read_file(url, part)))

    sizes = {name: size for name, (_, size) in places.items()}
    return PictureSource(url=url, sizes=_sorted(sizes, url), links=0, _open=read)


def _members(file: Any) -> dict[str, tuple[int, int]]:
    """Place and size of the pictures of a tar; of two with one name the last, as tar unpacks it."""
    places = {}
    for header, is_plain in members_of(file):
        if is_plain and _is_picture(header.name):
            places[header.name] = header.offset_data, header.size
    file.seek(0, os.SEEK_END)
    return places
