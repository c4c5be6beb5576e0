"""What was annotated in a folder of samples: its states, versions and files; it knows no HTTP.

A sample is to do, annotated (``annotations/KEY.png``) or left out. A sample that is left out has a
file in ``annotations/left_out/`` instead: what was painted before, or an empty mask. Readers of
annotations need not know about it: to them such a sample has no annotation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from ovamgen.annotate.pictures import picture_size
from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import Sample, SampleFolder, read_mask, save_mask
from ovamgen.storage.whole_files import flush, make_folders, put_in_place

LEFT_OUT = "left_out"


class StaleVersionError(ConfigError):
    """The annotation is not the one that the change was made to."""


class UnknownKeyError(ConfigError):
    """No sample of the folder has the key."""


class State(StrEnum):
    """How far a sample is."""

    TO_DO = "to_do"
    ANNOTATED = "annotated"
    LEFT_OUT = "left_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many samples of a folder are in each state."""

    total: int
    annotated: int
    left_out: int

    @property
    def to_do(self) -> int:
        """Samples that nobody has decided about."""
        return self.total - self.annotated - self.left_out


class Annotations:
    """The annotations of a folder; every change names the version that it was made to."""

    def __init__(self, folder: SampleFolder) -> None:
        """Keys are looked up in the folder's list, so that none of them is ever a path."""
        self.folder = folder
        self.changed: set[str] = set()
        """Keys of the samples that were changed through this object."""
        self._samples = {sample.key: sample for sample in folder.samples}

    def sample(self, key: str) -> Sample:
        """The sample with a key.

        Raises:
            UnknownKeyError: there is none.
        """
        if (sample := self._samples.get(key)) is None:
            raise UnknownKeyError(f"no sample of {self.folder.root} has the key {key!r:.80}")
        return sample

    def state(self, sample: Sample) -> State:
        """To do, annotated or left out."""
        return self._held(sample)[0]

    def version(self, sample: Sample) -> str:
        """32 hexadecimal digits that change when the state or the file's bytes do.

        Raises:
            ConfigError: the file cannot be read.
        """
        state, path = self._held(sample)
        digest = hashlib.sha256(state.encode())
        if path is not None:
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                raise ConfigError(f"{path} cannot be read: {error}") from None
        return digest.hexdigest()[:32]

    def size(self, sample: Sample) -> tuple[int, int]:
        """Height and width of the sample's image, in pixels.

        Raises:
            ConfigError: the image is missing or damaged.
        """
        return picture_size(self.folder.image_path(sample))

    def mask(self, sample: Sample) -> Bool[np.ndarray, "H W"] | None:
        """What was painted, also of a sample that is left out; None where nothing was.

        Raises:
            ConfigError: the file is damaged or not of the image's size.
        """
        state, path = self._held(sample)
        if path is None:
            return None
        mask = read_mask(path)
        if mask.shape != (size := self.size(sample)):
            raise ConfigError(
                f"{path} must be {size[0]}x{size[1]} pixels (height x width) as its image is, got "
                f"{mask.shape[0]}x{mask.shape[1]}: paint it again"
            )
        return None if state is State.LEFT_OUT and not mask.any() else mask

    def save(self, sample: Sample, mask: Bool[np.ndarray, "H W"], version: str) -> None:
        """Makes ``mask`` the sample's annotation; an empty one makes the sample to do again.

        Raises:
            StaleVersionError: another change came first.
            ConfigError: the mask is not of the image's size, or cannot be written.
        """
        if mask.shape != (size := self.size(sample)):
            raise ConfigError(
                f"the mask of {sample.key} must be {size[0]}x{size[1]} pixels (height x width) as "
                f"its image is, got {mask.shape[0]}x{mask.shape[1]}"
            )
        self._check(sample, version)
        annotation, left_out = self._paths(sample)
        if mask.any():
            save_mask(mask, annotation)
        else:
            _remove(annotation)
        _remove(left_out)
        self.changed.add(sample.key)

    def leave_out(self, sample: Sample, version: str) -> None:
        """Sets the sample aside, and what was painted with it.

        Raises:
            StaleVersionError: another change came first.
            ConfigError: the files cannot be written.
        """
        self._check(sample, version)
        annotation, left_out = self._paths(sample)
        state = self.state(sample)
        if state is State.ANNOTATED:
            _move(annotation, left_out)
        elif state is State.TO_DO:
            save_mask(np.zeros(self.size(sample), bool), left_out)
        self.changed.add(sample.key)

    def take_in(self, sample: Sample, version: str) -> None:
        """Undoes `leave_out`: annotated if something was painted before, to do otherwise.

        Raises:
            StaleVersionError: another change came first.
            ConfigError: the files cannot be written.
        """
        self._check(sample, version)
        annotation, left_out = self._paths(sample)
        if self.state(sample) is State.LEFT_OUT:
            if read_mask(left_out).any():
                _move(left_out, annotation)
            else:
                _remove(left_out)
        self.changed.add(sample.key)

    def counts(self) -> Counts:
        """How many samples are in each state now."""
        states = [self.state(sample) for sample in self.folder.samples]
        return Counts(
            total=len(states),
            annotated=states.count(State.ANNOTATED),
            left_out=states.count(State.LEFT_OUT),
        )

    def _paths(self, sample: Sample) -> tuple[Path, Path]:
        annotation = self.folder.annotation_path(sample)
        return annotation, annotation.parent / LEFT_OUT / annotation.name

    def _held(self, sample: Sample) -> tuple[State, Path | None]:
        annotation, left_out = self._paths(sample)
        # a save that was killed between its two steps leaves both: the annotation is the newer one
        if annotation.is_file():
            return State.ANNOTATED, annotation
        if left_out.is_file():
            return State.LEFT_OUT, left_out
        return State.TO_DO, None

    def _check(self, sample: Sample, version: str) -> None:
        if version != self.version(sample):
            raise StaleVersionError(
                f"the annotation of {sample.key} was changed elsewhere (another window, or an "
                "import): look at that one before you replace it"
            )


def _move(source: Path, target: Path) -> None:
    try:
        make_folders(target.parent)
        put_in_place(source, target)
        flush(source.parent)
    except OSError as error:
        raise ConfigError(f"{source} cannot be moved to {target}: {error}") from None


def _remove(path: Path) -> None:
    try:
        path.unlink()
        flush(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{path} cannot be removed: {error}") from None
