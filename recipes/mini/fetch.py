"""The six icon sets, fetched by the npm client and checked against their pinned digests.

Knows packages and JSON, no pixels.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from ovamgen.errors import ConfigError
from recipes.mini.catalogue import ICON_SETS, IconSet


def fetch(folder: Path, sets: tuple[IconSet, ...] = ICON_SETS) -> list[Path]:
    """The tarballs of the icon sets in ``folder``, each one downloaded where it is not there yet.

    Raises:
        ConfigError: the npm client is missing or fails, or a tarball is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [icons for icons in sets if not (folder / icons.archive).exists()]
    if missing:
        _npm_pack(folder, [f"{icons.package}@{icons.version}" for icons in missing])
    for icons in sets:
        verify(folder / icons.archive, icons.integrity)
    return [folder / icons.archive for icons in sets]


def verify(archive: Path, integrity: str) -> None:
    """Nothing, where the file has the digest.

    Args:
        archive: any file.
        integrity: ``sha512-`` and the base64 of the digest (W3C Subresource Integrity).

    Raises:
        ConfigError: the file is missing or has another digest.
    """
    if not archive.exists():
        raise ConfigError(f"expected {archive} from npm pack, it is not there: fetch again")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != integrity:
        raise ConfigError(
            f"{archive} must have {integrity}, got sha512-{digest}: delete it and fetch again"
        )


def read_icons(archive: Path) -> dict[str, Any]:
    """The icon collection (Iconify JSON) inside a tarball."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile("package/icons.json")
        if member is None:
            raise ConfigError(f"{archive} must hold package/icons.json, it does not")
        return json.load(member)


def _npm_pack(folder: Path, packages: list[str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(
            "fetching the icon sets needs the npm client, none is on the PATH: install Node.js, "
            f"or put the tarballs of {', '.join(packages)} into {folder}"
        )
    command = [npm, "pack", "--silent", "--pack-destination", str(folder.resolve()), *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise ConfigError(f"npm pack ended with {done.returncode}: {reason}: is there a network?")
