"""Folders and tars of pictures, and tables about them, that somebody else made for ``label``."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.fuzz.attacks import png, text_bomb
from tests.hostile.forging import attacks
from tests.hostile.pictures import jpeg
from tests.hostile.tars import long_name, pax_name
from tests.hostile.world import OUTSIDE, PHOTOS, PHOTOS_TABLE, PHOTOS_TAR


def _file(name: str, content: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda root: (root / PHOTOS / name).write_bytes(content()) and None


def _link(name: str, to: str) -> Callable[[Path], None]:
    return lambda root: (root / PHOTOS / name).symlink_to(to)


def _pipe(root: Path) -> None:
    os.mkfifo(root / PHOTOS / "pipe.jpg")


def _folders(root: Path) -> None:
    """A link to the folder above: who followed it would go round."""
    (root / PHOTOS / "deeper").symlink_to(root / PHOTOS)


def _frames() -> bytes:
    """A TIFF of many pages, each smaller than the next would say."""
    file = io.BytesIO()
    pages = [Image.new("RGB", (64, 64)) for _ in range(400)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 9_999
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG", exif=exif)
    return file.getvalue()


def _tar(content: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda root: (root / PHOTOS_TAR).write_bytes(content()) and None


def _member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with tarfile.open(root / PHOTOS_TAR, "a") as tar:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, to
            tar.addfile(header)

    return damage


def _claimed(root: Path) -> None:
    """A member of 5 GB that is not there."""
    header = tarfile.TarInfo("large.jpg")
    header.size = 5 * 10**9
    (root / PHOTOS_TAR).write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_240 - 512))


def _table(text: bytes) -> Callable[[Path], None]:
    return lambda root: (root / PHOTOS_TABLE).write_bytes(text) and None


ATTACKS = [
    *attacks(
        "labelled pictures",
        PHOTOS,
        {
            "a link to a picture of the user's": _link("holiday.jpg", f"../{OUTSIDE}/Photos"),
            "a link to a device": _link("zero.png", "/dev/zero"),
            "a link to itself": _link("self.png", "self.png"),
            "a link to the folder above": _folders,
            "a pipe": _pipe,
            "50,000 pixels a side": _file("large.png", lambda: png(50_000, 50_000, 1)),
            "9,000 pixels a side": _file("large.png", lambda: png(9_000, 9_000)),
            "a strip of 60,000 pixels": _file("strip.jpg", lambda: jpeg(60_000, 1)),
            "a strip of 30,000 pixels": _file("strip.jpg", lambda: jpeg(30_000, 8)),
            "a comment of 300 MB": _file("comment.png", text_bomb),
            "400 pages": _file("pages.tif", _frames),
            "an orientation that is none": _file("turned.jpg", _exif),
            "PostScript": _file("code.jpg", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run\n"),
            "an empty file": _file("empty.jpg", bytes),
            "escape codes in a name": _file("\x1b]0;owned\x07\x1b[2J.png", lambda: b"no picture"),
            "markup in a name": _file("<img src=x onerror=hostile>.png", lambda: b"no picture"),
            "a name that is no Unicode": _file(os.fsdecode(b"\xff\xfe.png"), lambda: b"x"),
            "a line break in a name": _file("two\nlines.png", lambda: b"no picture"),
        },
    ),
    *attacks(
        "labelled pictures",
        PHOTOS_TAR,
        {
            "a name of 600 MB": _tar(lambda: long_name(600 * 10**6)),
            "a pax name of 100 MB": _tar(lambda: pax_name(100 * 10**6)),
            "a member out of the tar": _member("../../outside/id_ed25519.png"),
            "a link to a key": _member("key.png", tarfile.SYMTYPE, "../outside/id_ed25519"),
            "a device": _member("zero.png", tarfile.CHRTYPE),
            "a member of 5 GB": _claimed,
            "cut": lambda root: os.truncate(root / PHOTOS_TAR, 700),
            "no tar": _tar(lambda: b"no tar at all\n" * 99),
        },
    ),
    *attacks(
        "labelled pictures",
        PHOTOS_TABLE,
        {
            "a path out of the folder": _table(b"picture,classes\n../outside/id_ed25519,cat\n"),
            "a class that is none": _table(b"picture,classes\none.png,unicorn\n"),
            "escape codes": _table(b"picture,classes\n\x1b[2J.png,\x1b]0;owned\x07\n"),
            "no Unicode": _table(b"picture,classes\n\xff\xfe.png,cat\n"),
            "empty": _table(b""),
            "a caption of 100,000 words": _table(
                b"picture,caption\none.png,a cat" + b" word" * 100_000 + b"\n"
            ),
        },
    ),
]
