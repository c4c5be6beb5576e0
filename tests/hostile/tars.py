"""Tars that name what they must not, or promise more than they hold."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.attacks import ATTACKS as OF_READERS
from tests.hostile.forging import (
    attacks,
    put_tar,
    read_members,
    rename_key,
    write_members,
)
from tests.hostile.world import CORPUS, TAR, vouch

_BIDI = "\u202e"


def _with_header(change: Callable[[tarfile.TarInfo], object]) -> Callable[[Path], None]:
    """One more member, of another kind."""

    def damage(root: Path) -> None:
        with tarfile.open(root / CORPUS / TAR, "a") as tar:
            header = tarfile.TarInfo("00000000009.jpg")
            change(header)
            tar.addfile(header)
        vouch(root / CORPUS)

    return damage


def _kind(kind: bytes, to: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(header: tarfile.TarInfo) -> None:
        header.type, header.linkname = kind, to

    return change


def long_name(size: int) -> bytes:
    """A tar of one empty member whose name has so many bytes."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, size + 1
    last = tarfile.TarInfo("00000000001.jpg")
    body = header.tobuf(tarfile.GNU_FORMAT) + b"0" * size + bytes(512 - size % 512)
    body += last.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    return body + bytes(-len(body) % tarfile.RECORDSIZE)


def pax_name(size: int) -> bytes:
    """The same by a pax header."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("0" * size))
    return file.getvalue()


def _empty_members(count: int) -> bytes:
    file = io.BytesIO()
    block = b"".join(
        tarfile.TarInfo(f"{n:011d}.jpg").tobuf(tarfile.USTAR_FORMAT) for n in range(count)
    )
    file.write(block + bytes(1024))
    file.write(bytes(-file.tell() % tarfile.RECORDSIZE))
    return file.getvalue()


def _add(*members: tuple[str, bytes]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        write_members(root / CORPUS, [*read_members(root / CORPUS), *members])

    return damage


def _swap(old: str, new: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        members = [(n.replace(old, new), c) for n, c in read_members(root / CORPUS)]
        write_members(root / CORPUS, members)

    return damage


ATTACKS = [
    *attacks(
        "tars",
        CORPUS,
        {
            **{
                name: put_tar(content)
                for name, content in OF_READERS["corpus/train-000000.tar"].items()
            },
            "a name of 600 MB": put_tar(lambda: long_name(600_000_000)),
            "a pax name of 100 MB": put_tar(lambda: pax_name(100_000_000)),
            "300,000 empty members": put_tar(lambda: _empty_members(300_000)),
            "a link out": _with_header(_kind(tarfile.SYMTYPE, "../outside/id_ed25519")),
            "a hard link out": _with_header(_kind(tarfile.LNKTYPE, "../outside/id_ed25519")),
            "a device": _with_header(_kind(tarfile.CHRTYPE)),
            "a pipe": _with_header(_kind(tarfile.FIFOTYPE)),
            "a path out": _add(("../outside/id_ed25519", b"x")),
            "an absolute path": _add(("/etc/ovamgen.jpg", b"x")),
            "no member": put_tar(lambda: bytes(tarfile.RECORDSIZE)),
            "nothing": put_tar(bytes),
            "one sample twice": lambda root: write_members(
                root / CORPUS, [*read_members(root / CORPUS), *read_members(root / CORPUS)]
            ),
            "no masks": _swap(".mask.png", ".other.png"),
            "no pictures": _swap(".jpg", ".other.jpg"),
        },
    ),
    *attacks(
        "keys",
        CORPUS,
        {
            "line break": rename_key("0000\n0000001"),
            "carriage return": rename_key("0000000000\r"),
            "escape code": rename_key("0000\x1b[2J0001"),
            "leading dash": rename_key("-0000000001"),
            "slash": rename_key("0000/000001"),
            "backslash": rename_key("..\\..\\01"),
            "dots": rename_key("000000..001"),
            "empty": rename_key(""),
            "digits that are not ASCII": rename_key("0000000000١"),
            "bidirectional": rename_key(f"000000{_BIDI}0001"),
            "formula": rename_key("=cmd|'/c calc'!A1"),
            "one of another shard": rename_key("00000900001"),
            "300 digits": rename_key("0" * 299 + "1"),
        },
    ),
]
