"""Pictures with masks of known quality: generated and annotated ones, or real ones in VOC's layout.

Everything that can be wrong with a data set is found here, before a model is loaded. It does not
know how pictures are drawn again, nor what is scored on them.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import UInt8

from ovamgen.classes.class_entry import BACKGROUND, IGNORE, ClassEntry
from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import ConfigError
from ovamgen.mini import voc_place
from ovamgen.pictures.sample_folder import ANNOTATIONS, SAMPLES, SampleFolder
from ovamgen.pictures.voc import VocFolder
from ovamgen.plan.keys import sample_seed

CAPTIONS = "captions.csv"
PLACEHOLDER = "{classes}"
CAPTION = "A photograph of {classes}"
"""The caption of a real picture that has none, its classes joined by "and"."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTarget:
    """A class that one picture is scored for."""

    entry: ClassEntry
    word_included: bool
    """The prompt names it, by the published rule: its phrase is in the text (methods 7.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of a data set, without its pixels."""

    key: str
    prompt: str
    """The prompt that drew it, or its caption."""
    seed: int
    """Seed of the noise that it was drawn from, or that it is to be noised with."""
    targets: tuple[PictureTarget, ...]
    height: int
    width: int
    digest: str
    """sha256 (hex) of its file."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PictureSet:
    """The pictures of a data set that are to be scored."""

    kind: Literal["samples", "voc"]
    """Generated from prompts and seeds, or real."""
    name: str
    split: str
    """Split of a VOC folder, else ""."""
    pictures: tuple[Picture, ...]
    classes: ClassSet
    """The classes that its pictures are scored for."""
    settings: Mapping[str, Any]
    """The sections that drew generated samples; empty for real pictures."""
    notes: tuple[str, ...] = ()
    """What a reader of the scores should know about the choice of pictures."""
    load_image: Callable[[str], UInt8[np.ndarray, "H W 3"]] = field(repr=False)
    load_truth: Callable[[str], UInt8[np.ndarray, "H W"]] = field(repr=False)

    def image(self, picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
        """The picture, RGB."""
        return self.load_image(picture.key)

    def truth(self, picture: Picture) -> UInt8[np.ndarray, "H W"]:
        """Its label map: 0 background, class ids, 255 where nothing is known."""
        return self.load_truth(picture.key)


def open_pictures(
    root: str | Path,
    *,
    split: str | None = None,
    annotations: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    classes: ClassSet | None = None,
    caption: str | None = None,
    option: str = "--dataset",
) -> PictureSet:
    """The data set in a folder, every picture and mask of it checked.

    Args:
        root: a folder of samples with annotations, one in VOC's layout, or ``mini`` for the set
            that ships with the embedded model.
        split: of a VOC folder; ``val`` where not given.
        annotations: where a folder of samples has its annotations elsewhere.
        limit: at most so many pictures, taken from every class in turn.
        seed: of the noise of real pictures, with each one's name.
        classes: that are scored; the folder's own where not given. Labels in VOC's layout are
            turned into them where they can be (`ovamgen.classes.relabelling`).
        caption: of every real picture, in place of its own; ``{classes}`` becomes its classes, "a
            cat and a dog".
        option: what named the folder, for messages.

    Raises:
        ConfigError: the folder is neither, a file is missing or damaged, a mask does not fit its
            picture, an annotation belongs to no sample, or nothing is left to score.
    """
    folder = Path(voc_place(str(root))).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{option} {root} must be a folder, there is none")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {limit}")
    if (folder / SAMPLES).exists():
        if split is not None:
            raise ConfigError(f"--split is for folders in VOC's layout, {root} holds samples")
        if caption is not None:
            raise ConfigError(
                f"--caption is for real pictures, {root} holds samples, which have their prompts"
            )
        return _generated(folder, annotations, limit, classes)
    voc = any((folder / inner / "ImageSets").is_dir() for inner in ("", "VOC2012", "VOCdevkit"))
    if not voc and not (folder / "VOCdevkit" / "VOC2012").is_dir():
        raise ConfigError(
            f"{option} {root} must be a folder of samples ({SAMPLES}; made by 'ovamgen samples') "
            "or one in VOC's layout (JPEGImages, SegmentationClass, ImageSets/Segmentation), it is "
            "neither"
        )
    if annotations is not None:
        raise ConfigError(f"--annotations is for folders of samples, {root} is in VOC's layout")
    if caption is not None and not caption.strip():
        raise ConfigError("--caption must hold text, such as 'A photograph of {classes}'")
    return _real(folder, "val" if split is None else split, limit, seed, classes, caption)


def in_turn(items: Sequence[T], class_of: Callable[[T], int], count: int | None) -> list[T]:
    """At most so many of the items, from every class in turn, in the order of class ids."""
    queues: dict[int, list[T]] = {}
    for item in items:
        queues.setdefault(class_of(item), []).append(item)
    turns = max(map(len, queues.values()), default=0)
    ordered = [
        queues[class_id][turn]
        for turn in range(turns)
        for class_id in sorted(queues)
        if turn < len(queues[class_id])
    ]
    return ordered[:count]


def digest_of_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _generated(
    root: Path, annotations: str | Path | None, limit: int | None, asked: ClassSet | None
) -> PictureSet:
    folder = SampleFolder.open(root)
    classes = folder.classes
    if asked not in (None, classes):
        raise ConfigError(
            f"the samples of {root} are of the classes {classes.name}, not of {asked.name}: leave "
            "--classes out, or draw samples of those"
        )
    samples = {sample.key: sample for sample in folder.samples}
    place = root / ANNOTATIONS if annotations is None else Path(annotations)
    stray = sorted(path.name for path in place.glob("*.png") if path.stem not in samples)
    if stray:
        more = f" and {len(stray) - 1} more" if len(stray) > 1 else ""
        raise ConfigError(
            f"every annotation in {place} must belong to a sample of {root / SAMPLES}, but "
            f"{stray[0]}{more} does not: remove it, or name it after its sample"
        )
    annotated = [s for s in folder.samples if folder.annotation_path(s, annotations).exists()]
    if not annotated:
        raise ConfigError(
            f"no sample of {root} has an annotation in {place}: paint some with "
            f"'ovamgen annotate --samples {root}'"
        )
    pictures = []
    chosen = in_turn(annotated, lambda s: classes.by_name(s.class_name).id, limit)
    for sample in sorted(chosen, key=lambda s: s.key):
        mask = folder.annotation(sample, annotations)
        target = PictureTarget(
            entry=classes.by_name(sample.class_name), word_included=sample.word_included
        )
        pictures.append(
            Picture(
                key=sample.key,
                prompt=sample.prompt,
                seed=sample.seed,
                targets=(target,),
                height=mask.shape[0],
                width=mask.shape[1],
                digest=digest_of_file(folder.image_path(sample)),
            )
        )
    notes = []
    if left := len(folder.samples) - len(annotated):
        notes.append(f"{left} of {len(folder.samples)} samples have no annotation: not scored.")
    notes += _limited(len(chosen), len(annotated))

    def truth(key: str) -> UInt8[np.ndarray, "H W"]:
        mask = folder.annotation(samples[key], annotations)
        class_id = classes.by_name(samples[key].class_name).id
        return np.where(mask, class_id, BACKGROUND).astype(np.uint8)

    return PictureSet(
        kind="samples",
        name=root.name,
        split="",
        pictures=tuple(pictures),
        classes=classes,
        settings=folder.settings,
        notes=tuple(notes),
        load_image=lambda key: folder.image(samples[key]),
        load_truth=truth,
    )


def _real(
    root: Path,
    split: str,
    limit: int | None,
    seed: int,
    asked: ClassSet | None,
    given: str | None,
) -> PictureSet:
    folder = VocFolder.open(root, split, asked)
    classes, own = folder.classes, folder.own_classes
    captions = _read_captions(folder.root / CAPTIONS, own)
    places = {name: place for place, name in enumerate(folder.names)}
    found, empty = [], 0
    for place, name in enumerate(folder.names):
        example = folder.read(place)
        caption, named = captions.get(name, ("", ()))
        present = [int(label) for label in np.unique(example.labels)]
        present = [label for label in present if label not in (BACKGROUND, IGNORE)]
        # the caption names classes of the folder's own
        labels = [int(folder.table[entry.id]) for entry in named]
        ids = sorted({*present, *labels} - {BACKGROUND})
        if not ids:
            empty += 1
            continue
        # the order of the caption, so that the first class is the one that it names first
        order = {label: rank for rank, label in enumerate(labels)}
        shown = [classes.by_id(i) for i in sorted(ids, key=lambda i: (order.get(i, len(ids)), i))]
        own_text = "" if given is not None else caption
        together = " and ".join(entry.with_article for entry in shown)
        text = own_text or (given or CAPTION).replace(PLACEHOLDER, together)
        targets = tuple(
            PictureTarget(entry=entry, word_included=entry.phrase in text.lower())
            for entry in shown
        )
        found.append(
            Picture(
                key=name,
                prompt=text,
                seed=sample_seed(seed, name),
                targets=targets,
                height=example.labels.shape[0],
                width=example.labels.shape[1],
                digest=digest_of_file(folder.paths(name)[0]),
            )
        )
    if not found:
        raise ConfigError(f"no picture of split '{split}' of {root} shows one of the classes")
    chosen = in_turn(found, lambda picture: picture.targets[0].entry.id, limit)
    notes = []
    if empty:
        notes.append(f"{empty} pictures show none of the classes: not scored.")
    if given is not None:
        notes.append(f"Captions are left aside, '{given}' stands for them.")
    elif bare := sum(picture.key not in captions for picture in chosen):
        notes.append(f"{bare} pictures have no caption in {CAPTIONS}: '{CAPTION}' was used.")
    notes += _limited(len(chosen), len(found))
    return PictureSet(
        kind="voc",
        name=folder.root.name,
        split=split,
        pictures=tuple(sorted(chosen, key=lambda picture: picture.key)),
        classes=classes,
        settings={},
        notes=tuple(notes),
        load_image=lambda key: folder.read(places[key]).image,
        load_truth=lambda key: folder.read(places[key]).labels,
    )


def _limited(chosen: int, there: int) -> list[str]:
    if chosen == there:
        return []
    return [f"{chosen} of {there} pictures were taken, from every class in turn."]


def _read_captions(path: Path, classes: ClassSet) -> dict[str, tuple[str, tuple[ClassEntry, ...]]]:
    """Caption and classes by picture; nothing where the data set has no captions."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not {"name", "caption"} <= set(reader.fieldnames or ()):
                raise ConfigError(
                    f"{path} must have the columns name and caption, it has "
                    f"{', '.join(reader.fieldnames or ()) or 'none'}"
                )
            rows = list(reader)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    captions = {}
    for number, row in enumerate(rows, 2):
        caption = " ".join((row["caption"] or "").split())
        if caption:
            # joined as the captions of a plan are
            names = filter(None, map(str.strip, (row.get("classes") or "").split(";")))
            try:
                captions[row["name"] or ""] = caption, tuple(map(classes.by_name, names))
            except ConfigError as error:
                raise ConfigError(f"{path}, line {number}: {error}") from None
    return captions
