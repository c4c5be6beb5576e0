"""Folders in the layout of PASCAL VOC: pictures with label maps, by split.

``JPEGImages/NAME.jpg``, ``SegmentationClass/NAME.png`` and ``ImageSets/Segmentation/SPLIT.txt``
(conventions 3.5), as VOCdevkit has them and `recipes` and `ovamgen export voc` write them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import check_labels
from ovamgen.classes.loading import default_classes, load_class_set
from ovamgen.classes.relabelling import relabelling
from ovamgen.errors import ConfigError
from ovamgen.mini import voc_place
from ovamgen.pictures.example import Example
from ovamgen.shards.output_files import CLASS_FILE_NAME
from ovamgen.storage.damaged_files import BROKEN_PICTURE

_IMAGES = "JPEGImages"
_MASKS = "SegmentationClass"
_LISTS = "ImageSets/Segmentation"
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class VocFolder:
    """The pictures of one split, in the order of its list."""

    root: Path
    split: str
    names: tuple[str, ...]
    classes: ClassSet
    """The classes of the labels that are read."""
    own_classes: ClassSet
    """The classes of the labels in the files: of ``classes.yaml``; VOC's where there is none."""
    table: UInt8[np.ndarray, " 256"]
    """By label in the files, the label that is read."""

    @classmethod
    def open(cls, root: str | Path, split: str, classes: ClassSet | None = None) -> VocFolder:
        """The split; that all its files exist is checked, their contents are read later.

        Args:
            root: the folder itself, a ``VOCdevkit`` that holds ``VOC2012``, or ``mini``, the set
                that ships with the embedded model (split ``val``).
            split: such as ``train`` or ``val``.
            classes: that the labels are to be of (`ovamgen.classes.relabelling`); the folder's own
                where not given.

        Raises:
            ConfigError: no such folder or split, an empty split, a file of it that is missing, or
                classes that its labels cannot tell.
        """
        folder = _find_root(Path(voc_place(str(root))).expanduser())
        path = folder / _LISTS / f"{split}.txt"
        try:
            # lists of single classes have a second column; the first is the name
            lines = path.read_text("utf-8").splitlines()
            names = tuple(line.split()[0] for line in lines if line.strip())
        except FileNotFoundError:
            there = sorted(file.stem for file in path.parent.glob("*.txt"))
            raise ConfigError(
                f"{folder} has no split '{split}': {path} does not exist; there are "
                f"{', '.join(there) or 'none'}"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None
        if not names:
            raise ConfigError(f"split '{split}' must name at least one picture, {path} is empty")
        for number, name in enumerate(names, start=1):
            if len(name) > _LONGEST_NAME or "/" in name or "\0" in name:
                raise ConfigError(
                    f"{path} must list names of files, without their endings, got {name!a:.60} as "
                    f"name {number}"
                )
        own = _own_classes(folder)
        table = np.arange(256, dtype=np.uint8)
        if classes is not None and classes != own:
            try:
                table = relabelling(own, classes)
            except ConfigError as error:
                raise ConfigError(f"{folder}: {error}") from None
        found = cls(
            root=folder,
            split=split,
            names=names,
            classes=classes or own,
            own_classes=own,
            table=table,
        )
        missing = [p for name in names for p in found.paths(name) if not p.is_file()]
        if missing:
            more = f" and {len(missing) - 1} more files" if len(missing) > 1 else ""
            raise ConfigError(
                f"split '{split}' of {folder} names {len(names)} pictures, but {missing[0]}{more} "
                f"cannot be found: restore it, or take the name out of {path.name}"
            )
        return found

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.names)

    def paths(self, name: str) -> tuple[Path, Path]:
        """The files of a picture and of its label map."""
        return self.root / _IMAGES / f"{name}.jpg", self.root / _MASKS / f"{name}.png"

    def read(self, index: int) -> Example:
        """One picture with its label map.

        Raises:
            ConfigError: a file is damaged, the sizes differ, or the map is none of VOC's.
        """
        name = self.names[index]
        image_path, mask_path = self.paths(name)
        image = _open(image_path).convert("RGB")
        mask = _open(mask_path)
        if mask.mode not in ("P", "L"):
            raise ConfigError(
                f"{mask_path} must be a palette or grey PNG whose values are class ids, got mode "
                f"{mask.mode}: was it saved in colour?"
            )
        labels: UInt8[np.ndarray, "H W"] = np.asarray(mask)
        if mask.size != image.size:
            raise ConfigError(
                f"{mask_path} must be of the size of its picture, {image.height}x{image.width} "
                f"(height x width), got {mask.height}x{mask.width}"
            )
        check_labels(labels, self.own_classes, str(mask_path), ConfigError)
        return Example(name=name, image=np.asarray(image), labels=self.table[labels])

    def digest(self) -> str:
        """SHA-256 of the names and the sizes of the files: what a resumed training compares."""
        sums = hashlib.sha256()
        for name in self.names:
            sizes = " ".join(str(path.stat().st_size) for path in self.paths(name))
            sums.update(f"{name} {sizes}\n".encode())
        return sums.hexdigest()


def _find_root(folder: Path) -> Path:
    for root in (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012"):
        if (root / _LISTS).is_dir():
            return root
    raise ConfigError(
        f"{folder} must be a folder in VOC's layout ({_IMAGES}, {_MASKS}, {_LISTS}), or hold one "
        f"as VOC2012: {folder / _LISTS} does not exist"
    )


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except BROKEN_PICTURE as error:
        raise ConfigError(f"{path} cannot be read as a picture: {error}") from None


def _own_classes(folder: Path) -> ClassSet:
    path = folder / CLASS_FILE_NAME
    return load_class_set(str(path)) if path.exists() else default_classes()
