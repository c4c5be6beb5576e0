"""Which pictures a head learns from, what is asked of each, and their order.

A picture is asked for all its classes by Grounded Diffusion and for one of them by DatasetDM. It
does not know how features are made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from ovamgen.classes.class_entry import IGNORE, ClassEntry
from ovamgen.errors import ConfigError
from ovamgen.heads.settings import HeadTrainSettings
from ovamgen.pictures.picture_set import Picture, PictureSet
from ovamgen.plan.keys import sample_seed


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HeadExample:
    """One picture and the classes that a head is asked for in it."""

    picture: Picture
    classes: tuple[ClassEntry, ...]
    prompt: str
    """The generation prompt that its features belong to."""

    def masks(self, truth: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "K H W"]:
        """The masks of its classes."""
        return np.stack([truth == voc.id for voc in self.classes])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExampleSplit:
    """What is learnt from, and what is scored; no picture is in both."""

    learnt: tuple[HeadExample, ...]
    held_out: tuple[HeadExample, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that are learnt, in the order of their ids."""
        found = {voc.id: voc.name for example in self.learnt for voc in example.classes}
        return tuple(found[class_id] for class_id in sorted(found))


def choose_examples(pictures: PictureSet, settings: HeadTrainSettings) -> ExampleSplit:
    """The examples of a data set that the settings ask for.

    Raises:
        ConfigError: a class that no picture shows, or nothing is left to learn from.
    """
    shown = {target.entry.name for picture in pictures.pictures for target in picture.targets}
    if absent := [name for name in settings.classes or () if name not in shown]:
        raise ConfigError(
            f"no picture of {pictures.name} shows {', '.join(absent)}: leave them out, or give "
            f"other pictures (it shows {', '.join(sorted(shown))})"
        )
    found = []
    for picture in sorted(pictures.pictures, key=lambda picture: picture.key):
        classes = _classes(pictures.truth(picture), picture, settings)
        if classes:
            found.append((picture, classes))
    found = _limited(found, settings.pictures_per_class)
    if not found:
        raise ConfigError(
            f"no picture of {pictures.name} is left to learn from: lower least_area_px "
            f"({settings.least_area_px}), or set one_class to false"
        )
    ranked = sorted(found, key=lambda pair: sample_seed(settings.seed, f"held out:{pair[0].key}"))
    count = round(settings.held_out * len(ranked))
    if settings.held_out and not 0 < count < len(ranked):
        raise ConfigError(
            f"held_out {settings.held_out:g} of {len(ranked)} pictures leaves none to score or "
            "none to learn from: give more pictures or another share"
        )
    held_out = {picture.key for picture, _ in ranked[:count]}
    examples = [
        example for picture, classes in found for example in _asked(picture, classes, settings)
    ]
    return ExampleSplit(
        learnt=tuple(e for e in examples if e.picture.key not in held_out),
        held_out=tuple(e for e in examples if e.picture.key in held_out),
    )


def class_text(voc: ClassEntry, settings: HeadTrainSettings) -> str:
    """What a class is called in prompts and queries."""
    return voc.name if settings.names == "joined" else voc.phrase


def example_at(
    examples: Sequence[HeadExample], place: int, settings: HeadTrainSettings
) -> HeadExample:
    """The example at a place of the endless order: each pass has every one, in an order its own."""
    epoch, index = divmod(place, len(examples))
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(examples))
    return examples[order[index]]


def digest_of_examples(pictures: PictureSet, split: ExampleSplit) -> str:
    """What a resumed training knows its data again by: files, masks and what is asked (hex)."""
    digest = hashlib.sha256()
    for example in (*split.learnt, *split.held_out):
        truth = hashlib.sha256(pictures.truth(example.picture).tobytes()).hexdigest()
        names = ",".join(voc.name for voc in example.classes)
        line = f"{example.picture.key} {example.picture.digest} {truth} {names} {example.prompt}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def _classes(
    truth: UInt8[np.ndarray, "H W"], picture: Picture, settings: HeadTrainSettings
) -> tuple[ClassEntry, ...]:
    """The classes of a picture that count."""
    if settings.one_class and len(np.unique(truth)) > 2:
        return ()
    areas = np.bincount(truth.ravel(), minlength=IGNORE + 1)
    return tuple(
        target.entry
        for target in picture.targets
        if areas[target.entry.id] > settings.least_area_px
        and (settings.classes is None or target.entry.name in settings.classes)
    )


def _limited(
    found: list[tuple[Picture, tuple[ClassEntry, ...]]], most: int | None
) -> list[tuple[Picture, tuple[ClassEntry, ...]]]:
    """At most so many pictures of each first class, in order."""
    if most is None:
        return found
    counts: dict[int, int] = {}
    kept = []
    for picture, classes in found:
        counts[classes[0].id] = counts.get(classes[0].id, 0) + 1
        if counts[classes[0].id] <= most:
            kept.append((picture, classes))
    return kept


def _asked(
    picture: Picture, classes: tuple[ClassEntry, ...], settings: HeadTrainSettings
) -> list[HeadExample]:
    groups = [classes] if settings.kind == "grounded" else [(voc,) for voc in classes]
    return [
        HeadExample(picture=picture, classes=group, prompt=_prompt(picture, group, settings))
        for group in groups
    ]


def _prompt(picture: Picture, classes: tuple[ClassEntry, ...], settings: HeadTrainSettings) -> str:
    if settings.prompt is None:
        return picture.prompt
    named = " and a ".join(class_text(voc, settings) for voc in classes)
    return settings.prompt.replace("{class}", named)
