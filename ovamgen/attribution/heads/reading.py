"""Heads from where they are named: local files, URLs, and those that ship with the package."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from ovamgen.attribution.heads.head_file import Head, HeadKind, load_head
from ovamgen.errors import ConfigError
from ovamgen.storage.reading import read_file
from ovamgen.storage.retrying import RemoteError
from ovamgen.storage.urls import LOCAL, check_no_credentials, scheme_of


def read_head(place: str, *, kind: HeadKind | None = None) -> Head:
    """The head at a path or an fsspec URL.

    Args:
        place: of a file of `Head.save`, or of the authors' checkpoint.
        kind: the one that is wanted; any where not given.

    Raises:
        ConfigError: as `load_head`; or credentials in the URL, or it cannot be read.
    """
    check_no_credentials(place)
    if scheme_of(place) in LOCAL:
        return load_head(place.removeprefix("file://"), kind=kind)
    with tempfile.TemporaryDirectory(prefix="ovamgen-head-") as folder:
        copy = Path(folder) / "head"
        try:
            read_file(place, lambda file: _copy(file, copy))
        except RemoteError as error:
            raise ConfigError(f"head {place} cannot be read: {error.explanation}") from None
        return load_head(copy, kind=kind, name=f"head {place}")


def _copy(file: Any, copy: Path) -> None:
    with copy.open("wb") as written:
        shutil.copyfileobj(file, written)
