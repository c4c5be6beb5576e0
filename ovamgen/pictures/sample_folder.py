"""A folder of generated samples that people annotate, tokens are learnt from and masks scored on.

``samples.csv`` (key, class_name, prompt, seed, word_included), ``synthesis.yaml`` (the sections
``model`` and ``synthesis`` that drew them, and ``classes`` where they are not VOC's),
``images/KEY.png``, and ``annotations/KEY.png`` where somebody painted the object: 8 bits, anything
above zero is foreground. This module knows files only; what draws or scores them is elsewhere.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Bool, UInt8
from PIL import Image

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import as_saved, default_classes, from_saved
from ovamgen.errors import ConfigError
from ovamgen.storage.damaged_files import BROKEN_PICTURE
from ovamgen.storage.plain_files import check_given
from ovamgen.storage.plain_yaml import load_plain_yaml
from ovamgen.storage.whole_files import make_folders, write_whole

SAMPLES = "samples.csv"
SYNTHESIS = "synthesis.yaml"
IMAGES = "images"
ANNOTATIONS = "annotations"
_COLUMNS = ("key", "class_name", "prompt", "seed", "word_included")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LARGEST_SIDE_PX = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One generated picture and the class whose object is annotated in it."""

    key: str
    """Letters, digits, ``_`` and ``-``: the name of its files."""
    class_name: str
    """Name in the folder's class set: ``diningtable``."""
    prompt: str
    seed: int
    """Seed of the initial noise, 0 <= seed < 2**63."""
    word_included: bool = True
    """The prompt names the class (methods 7.2)."""

    def __post_init__(self) -> None:
        """Refuses what cannot be a sample.

        Raises:
            ConfigError: a key that is no file name, a seed out of range.
        """
        if not _KEY.fullmatch(self.key):
            raise ConfigError(
                f"a key must be 1 to 64 letters, digits, '_' or '-', got '{self.key[:80]}'"
            )
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"sample {self.key}: seed must be in [0, 2**63), got {self.seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFolder:
    """The samples of a folder, in the order of its list."""

    root: Path
    samples: tuple[Sample, ...]
    settings: Mapping[str, Any]
    """The sections ``model`` and ``synthesis`` that drew the images, as plain values."""
    classes: ClassSet
    """The classes that the samples' are of."""

    @classmethod
    def open(cls, root: str | Path) -> SampleFolder:
        """The folder, its list read and checked; images and annotations are read later.

        Raises:
            ConfigError: no such folder, or a list that is none; file and line are named.
        """
        folder = Path(root)
        settings = _read_settings(folder / SYNTHESIS)
        try:
            classes = from_saved(settings)
        except ConfigError as error:
            raise ConfigError(f"{folder / SYNTHESIS}: {error}") from None
        samples = _read_samples(folder / SAMPLES, classes)
        sections = {name: values for name, values in settings.items() if name != "classes"}
        return cls(root=folder, samples=samples, settings=sections, classes=classes)

    @classmethod
    def create(
        cls,
        root: str | Path,
        samples: Iterable[Sample],
        settings: Mapping[str, Any],
        classes: ClassSet | None = None,
    ) -> SampleFolder:
        """Writes the two lists; images are added with `add_image`.

        Args:
            root: the folder.
            samples: in the order of the list.
            settings: the sections that draw them, as plain values.
            classes: that the samples' are of; the default ones where not given.

        Raises:
            ConfigError: the folder has a list already, keys repeat, or it cannot be written.
        """
        folder = Path(root)
        classes = classes or default_classes()
        rows = tuple(samples)
        _check_keys(rows, str(folder))
        if (folder / SAMPLES).exists():
            raise ConfigError(f"{folder} holds samples already: name another folder, or remove it")
        try:
            for name in (IMAGES, ANNOTATIONS):
                make_folders(folder / name)
            content = {**settings, **as_saved(classes)}
            text = yaml.safe_dump(content, sort_keys=True, allow_unicode=True)
            write_whole(folder / SYNTHESIS, text.encode())
            table = io.StringIO(newline="")
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(
                (s.key, s.class_name, s.prompt, s.seed, int(s.word_included)) for s in rows
            )
            write_whole(folder / SAMPLES, table.getvalue().encode())
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written: {error}") from None
        return cls(root=folder, samples=rows, settings=dict(settings), classes=classes)

    def image_path(self, sample: Sample) -> Path:
        """Where the sample's picture is, or would be."""
        return self.root / IMAGES / f"{sample.key}.png"

    def annotation_path(self, sample: Sample, annotations: str | Path | None = None) -> Path:
        """Where the sample's annotation is, or would be; in another folder where one is given."""
        folder = self.root / ANNOTATIONS if annotations is None else Path(annotations)
        return folder / f"{sample.key}.png"

    def add_image(self, sample: Sample, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Writes the sample's picture; it is there whole or not at all."""
        _save_png(Image.fromarray(image), self.image_path(sample))

    def image(self, sample: Sample) -> UInt8[np.ndarray, "H W 3"]:
        """The sample's picture.

        Raises:
            ConfigError: it is missing or damaged.
        """
        return np.asarray(_open_image(self.image_path(sample), "image").convert("RGB"))

    def annotation(
        self, sample: Sample, annotations: str | Path | None = None
    ) -> Bool[np.ndarray, "H W"]:
        """The sample's annotation, of the size of its image.

        Raises:
            ConfigError: it is missing, damaged, of another size, not of two values, or empty.
        """
        path = self.annotation_path(sample, annotations)
        mask = read_mask(path)
        with _open_image(self.image_path(sample), "image") as picture:
            size = picture.height, picture.width
        if mask.shape != size:
            raise ConfigError(
                f"{path} must be {size[0]}x{size[1]} pixels (height x width) as its image is, got "
                f"{mask.shape[0]}x{mask.shape[1]}: annotate the image that stands in {IMAGES}/"
            )
        if not mask.any():
            raise ConfigError(
                f"{path} must mark the {sample.class_name}, it is empty: paint it, or leave the "
                "sample out"
            )
        return mask


def read_mask(path: str | Path) -> Bool[np.ndarray, "H W"]:
    """The foreground of a mask of two values: any colour depth, anything but black is foreground.

    Raises:
        ConfigError: no such file, no picture, or a picture of more than two values.
    """
    with _open_image(Path(path), "annotation") as picture:
        if picture.mode in ("1", "L", "I;16", "I", "P"):
            values = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
            values = values.astype(np.int64)
        else:
            # methods 7.1: the sum of the channels; what is fully transparent is no foreground
            colours = np.asarray(picture.convert("RGBA")).astype(np.int64)
            values = colours[..., :3].sum(axis=2) * (colours[..., 3] > 0)
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        raise ConfigError(
            f"{path} must be black but for one value that marks the object, got {len(found)} "
            f"values from {found[0]} to {found[-1]}: save it without smoothing, or use "
            "'ovamgen annotate import'"
        )
    return values > 0


def save_mask(mask: Bool[np.ndarray, "H W"], path: str | Path) -> None:
    """Writes an annotation as an 8-bit PNG of 0 and 255; it is there whole or not at all."""
    _save_png(Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)), Path(path))


def _save_png(image: Image.Image, path: Path) -> None:
    write_whole(path, lambda file: image.save(file, format="PNG"), make_folder=True)


def _open_image(path: Path, what: str) -> Image.Image:
    try:
        check_given(path)
        # opened here, since Pillow leaves a file open where it is no picture
        with path.open("rb") as file:
            picture = Image.open(file)
            if max(picture.size) > _LARGEST_SIDE_PX:
                raise ConfigError(
                    f"{path} must be at most {_LARGEST_SIDE_PX} pixels a side, got {picture.size}"
                )
            picture.load()
    except FileNotFoundError:
        raise ConfigError(f"the {what} {path} does not exist") from None
    except BROKEN_PICTURE as error:
        raise ConfigError(f"{path} cannot be read as a picture: {error}") from None
    return picture


def _read_settings(path: Path) -> Mapping[str, Any]:
    try:
        check_given(path)
        data = load_plain_yaml(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path.parent} must be a folder of samples, it has no {path.name}: make one with "
            "'ovamgen samples'"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or not all(isinstance(value, dict) for value in data.values()):
        raise ConfigError(f"{path} must hold the sections 'model:' and 'synthesis:'")
    return data


def _read_samples(path: Path, classes: ClassSet) -> tuple[Sample, ...]:
    try:
        check_given(path)
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            if missing := [name for name in _COLUMNS[:4] if name not in columns]:
                raise ConfigError(
                    f"{path} must have the columns {', '.join(_COLUMNS)}, it lacks "
                    f"{', '.join(missing)}"
                )
            samples = tuple(
                _sample(row, classes, f"{path}, line {reader.line_num}") for row in reader
            )
    except FileNotFoundError:
        raise ConfigError(
            f"{path.parent} must be a folder of samples, it has no {path.name}: make one with "
            "'ovamgen samples'"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not samples:
        raise ConfigError(f"{path} must list at least one sample, it lists none")
    _check_keys(samples, str(path))
    return samples


def _sample(row: Mapping[str, str | None], classes: ClassSet, where: str) -> Sample:
    try:
        return Sample(
            key=row["key"] or "",
            class_name=classes.by_name(row["class_name"] or "").name,
            prompt=row["prompt"] or "",
            seed=int(row["seed"] or ""),
            word_included=(row.get("word_included") or "1") not in ("0", "false", "False"),
        )
    except ValueError:
        raise ConfigError(f"{where}: seed must be a whole number, got '{row['seed']}'") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _check_keys(samples: tuple[Sample, ...], where: str) -> None:
    counts = Counter(sample.key for sample in samples)
    if twice := [key for key, count in counts.items() if count > 1][:5]:
        raise ConfigError(f"{where}: each key must stand once, got {', '.join(twice)} twice")
