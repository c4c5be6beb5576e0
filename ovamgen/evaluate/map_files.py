"""Recorded maps as files, each with the fingerprint of what it depends on."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

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
    try:
        # numpy would leave the file open where it is no archive
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            described = json.loads(str(archive["description"]))
            if described["fingerprint"] != fingerprint:
                return None
            return RecordedMaps(
                maps=archive["maps"],
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
    description = {
        "fingerprint": fingerprint,
        "problems": recorded.problems,
        "difference": recorded.difference,
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, maps=recorded.maps, description=np.array(json.dumps(description)))
    write_whole(path, buffer.getvalue(), make_folder=True)
