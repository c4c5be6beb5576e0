"""Damage done to an output on purpose, drawn from a seed."""

from __future__ import annotations

import random
from pathlib import Path

KINDS = ("truncate", "flip", "swap", "delete", "add")


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of every file of an output, hidden ones too; what runs log is no part of it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_relative_to(folder / "logs")
    }


def corrupt(folder: Path, kind: str, rng: random.Random) -> list[str]:
    """Does one kind of damage to files that are drawn at random; names those that it changed."""
    files = files_of(folder)
    names = sorted(files)
    first, second = rng.sample(names, 2)
    path = folder / first
    if kind == "truncate":
        path.write_bytes(files[first][: rng.randrange(len(files[first]))])
    elif kind == "flip":
        data = bytearray(files[first])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    elif kind == "swap":
        if files[first] == files[second]:
            raise AssertionError(f"{first} and {second} are equal: swapping them is no damage")
        path.write_bytes(files[second])
        (folder / second).write_bytes(files[first])
        return [first, second]
    elif kind == "delete":
        path.unlink()
    else:
        name = rng.choice(["train-000099.tar", "manifests/000099.json", "notes.txt", "a/b/c.bin"])
        name = name.replace("99", f"{rng.randrange(50, 99)}")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[first])
        return [name]
    return [first]
