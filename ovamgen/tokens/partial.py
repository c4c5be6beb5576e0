"""Finished classes beside a bank that is not whole yet: ``OUT.partial/CLASS.safetensors``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ovamgen.config import RunConfig, canonical_json
from ovamgen.masks.iou import FINE_TAUS
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.whole_files import write_whole
from ovamgen.tokens.iou import IouCounts
from ovamgen.tokens.learning import ClassResult, ClassTask

_METADATA_KEY = "ovamgen"
_TEXTS = ("class_name", "fingerprint", "model", "revision", "model_digest")
_ARRAYS = ("initial", "pair", "losses", "maps")
_COUNTS = ("training", "held_out")
_DAMAGED = (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError)


class PartialBank:
    """The folder of finished classes; the next call of the same command goes on from it.

    Args:
        out: the bank that is being made.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(f"{out.name}.partial")

    def add(self, result: ClassResult) -> None:
        """Keeps a finished class; its file is there whole or not at all.

        Raises:
            ConfigError: the folder cannot be written.
        """
        write_whole(self._path(result.class_name), _to_bytes(result), make_folder=True)

    def finished(self, tasks: Sequence[ClassTask], config: RunConfig) -> dict[str, ClassResult]:
        """Earlier results of exactly these tasks, by class; damaged and other ones do not count."""
        found = {}
        for task in tasks:
            try:
                result = _from_bytes(self._path(task.class_name).read_bytes())
            except _DAMAGED:
                continue
            if result.fingerprint == task.fingerprint(config):
                found[task.class_name] = result
        return found

    def remove(self) -> None:
        """The bank is whole: the folder goes."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, class_name: str) -> Path:
        return self.folder / f"{class_name}.safetensors"


def _to_bytes(result: ClassResult) -> bytes:
    tensors: dict[str, np.ndarray] = {name: getattr(result, name) for name in _ARRAYS}
    for name in _COUNTS:
        pixels = [(counts.intersections, counts.unions) for counts in getattr(result, name)]
        tensors[name] = np.array(pixels, np.int64).reshape(-1, 2, len(FINE_TAUS))
    described: dict[str, Any] = {name: getattr(result, name) for name in _TEXTS}
    described["best_step"] = result.best_step
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return save_tensors(contiguous, {_METADATA_KEY: canonical_json(described)})


def _from_bytes(data: bytes) -> ClassResult:
    tensors = load_tensors(data)
    header = load_plain_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
    described = load_plain_json(header["__metadata__"][_METADATA_KEY])
    values: dict[str, Any] = {name: str(described[name]) for name in _TEXTS}
    values |= {name: tensors[name] for name in _ARRAYS}
    values |= {name: tuple(IouCounts(*pixels) for pixels in tensors[name]) for name in _COUNTS}
    return ClassResult(best_step=int(described["best_step"]), **values)
