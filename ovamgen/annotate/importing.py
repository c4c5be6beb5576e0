"""Takes in masks that were painted elsewhere: each file alone, so that a bad one stops no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool

from ovamgen.annotate.annotations import Annotations, State
from ovamgen.annotate.labelme import LabelmeMask, labelme_mask
from ovamgen.annotate.pictures import foreground
from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import ConfigError, IncompleteError
from ovamgen.pictures.sample_folder import Sample, SampleFolder

_LARGEST_FILE_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of each file."""

    keys: tuple[str, ...]
    """Samples that have their mask now."""
    failures: tuple[tuple[str, str], ...]
    """(file, reason) of those that were not taken in."""
    left_out: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(file, labels) of those that have shapes of other labels than were taken."""

    def check_complete(self) -> None:
        """Raises `IncompleteError` where a file was not taken in."""
        if self.failures:
            files = len(self.keys) + len(self.failures)
            raise IncompleteError(
                f"{len(self.failures)} of {files} files were not imported, for the reasons above"
            )


def import_masks(
    folder: SampleFolder,
    files: Iterable[str | Path],
    *,
    label: str | None = None,
    classes: Mapping[str, str] = MappingProxyType({}),
    overwrite: bool = False,
    on_start: Callable[[int], None] = lambda total: None,
    on_file: Callable[[str, str | None], None] = lambda file, reason: None,
) -> Imported:
    """Which files became annotations and which did not, and why.

    A file's name without its ending is the sample's key. In a PNG anything but black or transparent
    is foreground (methods 7.1), in a palette PNG anything but entry 0.

    Args:
        folder: The samples.
        files: labelme's JSON files and PNG files.
        label: Takes the shapes of this label out of JSON files, instead of those of the class.
        classes: The class by label, for labels of JSON files that are no name of it.
        overwrite: Replaces annotations that are there.
        on_start: Gets the number of files.
        on_file: Gets each file with the reason why it was not taken in, or None.
    """
    for name in classes.values():
        folder.classes.by_name(name)
    annotations = Annotations(folder)
    paths = [Path(file) for file in files]
    on_start(len(paths))
    taken: dict[str, Path] = {}
    failures: list[tuple[str, str]] = []
    left_out: list[tuple[str, tuple[str, ...]]] = []
    for path in paths:
        reason = None
        try:
            sample = annotations.sample(path.stem)
            if first := taken.get(sample.key):
                raise ConfigError(f"{path} is the second file for {sample.key}, after {first}")
            read = _read(path, sample, folder.classes, annotations.size(sample), label, classes)
            _save(annotations, sample, path, read.mask, overwrite)
            taken[sample.key] = path
            if read.left_out:
                left_out.append((str(path), read.left_out))
        except ConfigError as error:
            reason = str(error)
            failures.append((str(path), reason))
        on_file(str(path), reason)
    return Imported(keys=tuple(taken), failures=tuple(failures), left_out=tuple(left_out))


def _save(
    annotations: Annotations,
    sample: Sample,
    path: Path,
    mask: Bool[np.ndarray, "H W"],
    overwrite: bool,
) -> None:
    if not mask.any():
        raise ConfigError(
            f"{path} must mark the {sample.class_name}, it is empty: paint it, or mark the sample "
            "as left out in 'ovamgen annotate'"
        )
    version = annotations.version(sample)
    state = annotations.state(sample)
    if state is not State.TO_DO and not overwrite:
        if state is State.ANNOTATED and _same(annotations, sample, mask):
            return
        raise ConfigError(
            f"{sample.key} is {state.replace('_', ' ')} already: give --overwrite to replace that"
        )
    annotations.save(sample, mask, version)


def _read(
    path: Path,
    sample: Sample,
    known: ClassSet,
    size: tuple[int, int],
    label: str | None,
    classes: Mapping[str, str],
) -> LabelmeMask:
    kind = path.suffix.lower()
    if kind not in (".json", ".png"):
        raise ConfigError(f"{path} must be labelme's JSON or a PNG, it ends in '{path.suffix}'")
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise ConfigError(
                f"{path} must be at most {_LARGEST_FILE_BYTES} bytes, got {path.stat().st_size}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if kind == ".png":
        return LabelmeMask(mask=foreground(data, size, str(path)), left_out=())
    return labelme_mask(
        data,
        size,
        str(path),
        class_name=sample.class_name,
        known=known,
        label=label,
        classes=classes,
    )


def _same(annotations: Annotations, sample: Sample, mask: Bool[np.ndarray, "H W"]) -> bool:
    try:
        there = annotations.mask(sample)
    except ConfigError:
        return False
    return there is not None and bool(np.array_equal(there, mask))
