"""Recorded arrays in files that say what they were made of, so that a rerun can trust them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float32

from ovamgen.storage.damaged_files import BROKEN_ARRAYS
from ovamgen.storage.whole_files import write_whole


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RecordedMaps:
    """The maps of one picture by one setup."""

    maps: Float32[np.ndarray, "K h w"]
    """One for each of the picture's classes, in their order; all zero where there is a problem."""
    problems: dict[int, str]
    """Why a class has no map, by its place."""
    difference: float
    """Between the picture and what was drawn: mean absolute difference in levels of 0 to 255."""


def read_maps(path: Path, fingerprint: str) -> RecordedMaps | None:
    """The maps in a file; None where there is none, or one of something else, or a damaged one."""
    found = read_arrays(path, fingerprint)
    if found is None or "maps" not in found[0]:
        return None
    arrays, described = found
    try:
        return RecordedMaps(
            maps=arrays["maps"],
            problems={int(place): text for place, text in described["problems"].items()},
            difference=float(described["difference"]),
        )
    except BROKEN_ARRAYS:
        return None


def write_maps(path: Path, recorded: RecordedMaps, fingerprint: str) -> None:
    """Writes the maps; the file is there whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    described = {"problems": recorded.problems, "difference": recorded.difference}
    write_arrays(path, {"maps": recorded.maps}, described, fingerprint)


def read_arrays(
    path: Path, fingerprint: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The arrays in a file and what describes them; None as for `read_maps`."""
    try:
        # numpy would leave the file open where it is no archive
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            described = json.loads(str(archive["description"]))
            if described["fingerprint"] != fingerprint:
                return None
            return {name: archive[name] for name in archive if name != "description"}, described
    except BROKEN_ARRAYS:
        return None


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], described: Mapping[str, Any], fingerprint: str
) -> None:
    """Writes arrays and what describes them; the file is there whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    told = np.array(json.dumps({"fingerprint": fingerprint, **described}))
    saved: dict[str, Any] = {**arrays, "description": told}

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, **saved)

    write_whole(path, write, make_folder=True)
