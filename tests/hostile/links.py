"""Links and special files: the paths of a corpus lead out of it, wait, or have no end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.hostile.forging import attacks
from tests.hostile.world import CORPUS, OUTSIDE, RECORD, TABLE, TAR, VIEW


def _replace(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)


def linked(name: str, to: str) -> Callable[[Path], None]:
    """A link in the place of a file or folder; ``to`` is a path from the specimen's folder."""

    def damage(root: Path) -> None:
        path = root / name
        _replace(path)
        path.symlink_to(to if os.path.isabs(to) else root / to)

    return damage


def moved_and_linked(name: str) -> Callable[[Path], None]:
    """The part itself lies among the user's files, and a link to it in its place."""

    def damage(root: Path) -> None:
        target = root / OUTSIDE / Path(name).name
        shutil.move(root / name, target)
        (root / name).symlink_to(target)

    return damage


def special(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something that `make` puts in the place of a file."""

    def damage(root: Path) -> None:
        _replace(root / name)
        make(root / name)

    return damage


_FILES = {
    "run.yaml": "run.yaml",
    "plan": "plan.parquet",
    "manifest": "manifest.json",
    "record": RECORD,
    "table": TABLE,
    "tar": TAR,
}
_FOLDERS = {"metadata": "metadata", "manifests": "manifests", "logs": "logs"}

ATTACKS = [
    *attacks(
        "links",
        CORPUS,
        {
            "lock to a key": linked(f"{CORPUS}/.lock", f"{OUTSIDE}/id_ed25519"),
            "scratch to a folder": linked(f"{CORPUS}/.scratch", OUTSIDE),
            "a folder of the user's": linked(f"{CORPUS}/more", OUTSIDE),
            **{
                f"{what} moved away": moved_and_linked(f"{CORPUS}/{name}")
                for what, name in (
                    _FILES | {k: v for k, v in _FOLDERS.items() if k != "logs"}
                ).items()
            },
            "logs to a folder": linked(f"{CORPUS}/logs", OUTSIDE),
            "report to a key": linked(f"{CORPUS}/report.html", f"{OUTSIDE}/id_ed25519"),
            "record to zeros": linked(f"{CORPUS}/{RECORD}", "/dev/zero"),
            "tar to zeros": linked(f"{CORPUS}/{TAR}", "/dev/zero"),
            "run.yaml to itself": linked(f"{CORPUS}/run.yaml", f"{CORPUS}/run.yaml"),
            "metadata to itself": linked(f"{CORPUS}/metadata", f"{CORPUS}/metadata"),
            "to nothing": linked(f"{CORPUS}/manifest.json", "nothing"),
        },
    ),
    *attacks(
        "special files",
        CORPUS,
        {
            **{
                f"pipe for {what}": special(f"{CORPUS}/{name}", os.mkfifo)
                for what, name in _FILES.items()
            },
            "pipe for the lock": special(f"{CORPUS}/.lock", os.mkfifo),
            "pipe for progress": special(f"{CORPUS}/logs/progress.json", os.mkfifo),
            "folder for run.yaml": special(f"{CORPUS}/run.yaml", os.mkdir),
            "folder for the tar": special(f"{CORPUS}/{TAR}", os.mkdir),
            "file for manifests": special(f"{CORPUS}/manifests", lambda path: path.touch()),
            "folders without end": special(
                f"{CORPUS}/deep", lambda path: (path / "/".join("d" * 500)).mkdir(parents=True)
            ),
        },
    ),
    *attacks(
        "links",
        VIEW,
        {
            "selection to a key": linked(f"{VIEW}/selection.json", f"{OUTSIDE}/id_ed25519"),
            "table to zeros": linked(f"{VIEW}/selection.parquet", "/dev/zero"),
            "lock to a key": linked(f"{VIEW}/.lock", f"{OUTSIDE}/id_ed25519"),
            "the corpus' tar": linked(f"{CORPUS}/{TAR}", f"{OUTSIDE}/id_ed25519"),
        },
    ),
    *attacks(
        "special files",
        VIEW,
        {
            "pipe for selection": special(f"{VIEW}/selection.json", os.mkfifo),
            "pipe for table": special(f"{VIEW}/selection.parquet", os.mkfifo),
        },
    ),
    *attacks(
        "special files",
        "bank.safetensors",
        {
            "pipe": special("bank.safetensors", os.mkfifo),
            "zeros": linked("bank.safetensors", "/dev/zero"),
        },
    ),
    *attacks(
        "special files",
        "samples",
        {
            "pipe for samples.csv": special("samples/samples.csv", os.mkfifo),
            "pipe for an annotation": special("samples/annotations/cat-1.png", os.mkfifo),
        },
    ),
    *attacks(
        "special files", "training", {"pipe": special("training/segmentor.safetensors", os.mkfifo)}
    ),
]
