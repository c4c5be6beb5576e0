"""The selection of captions that the OVAM authors evaluate on, COCO-cap (methods 7.2).

30 + 30 captions a class out of COCO's validation captions, drawn as the published notebook draws
them, quirks included. The drawing depends on the order of rows, which the notebook leaves to joins
of pandas before 2.2: they group rows by the joined key. Its printed output shows that order: rows
4, 12, 72, 74 and 84 come first, which are what RandomState(42) picks of 117 rows grouped so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ovamgen.classes.class_set import ClassSet
from ovamgen.plan.captions import Caption, InstanceFile
from ovamgen.plan.prompts import PromptSpec, Reason, Rejection, reject, with_class_words

PER_POOL = 30
"""Captions of a class that name it, and as many that do not."""
MIN_AREA = 5000.0
"""Square pixels that the largest instance of an image must exceed."""
MAX_INSTANCES = 2
"""Instances of VOC classes that an image may have, of any size."""
SEED = 42

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Row:
    """A caption joined with one class of its image."""

    caption: Caption
    prompt: str
    class_id: int
    word_included: bool
    """Whether the class's phrase is a substring of the prompt."""


def select_coco_cap(
    captions: Sequence[Caption],
    instances: InstanceFile,
    classes: ClassSet,
    *,
    limit: int | None = None,
    append_class_words: bool = False,
) -> tuple[list[PromptSpec], list[Rejection]]:
    """The captions of the published selection in its order, and all others with their reasons.

    Each has the row's class as its first target and the image's other class, if any, as its
    second. The published run, on all of COCO val2017, prints 1,071 rows (methods 7.2, step 6).

    Args:
        captions: in the order of the file; of two with the same id the first counts.
        instances: of the same images.
        classes: VOC's.
        limit: keep only so many of the drawn captions, the first.
        append_class_words: `ovamgen.plan.prompts.with_class_words` is what is drawn.
    """
    by_image = _classes_by_image(instances)
    unfit = _unfit_images(instances)
    reasons: list[Reason | None] = []
    ids: set[int] = set()
    for caption in captions:
        if caption.caption_id in ids:
            reasons.append(Reason.DUPLICATE_ID)
        elif caption.image_id not in by_image:
            reasons.append(Reason.NO_INSTANCE)
        else:
            reasons.append(unfit.get(caption.image_id))
        ids.add(caption.caption_id)
    judged = list(zip(captions, reasons, strict=True))
    rows = _rows([caption for caption, reason in judged if reason is None], by_image, classes)
    drawn = _draw(rows)
    kept = dict(list(drawn.items())[:limit])

    together: dict[int, list[int]] = {}
    for row in rows:
        together.setdefault(row.caption.caption_id, []).append(row.class_id)
    prompts = []
    for caption_id, row in kept.items():
        others = [class_id for class_id in together[caption_id] if class_id != row.class_id]
        targets = tuple(map(classes.by_id, (row.class_id, *others)))
        text = with_class_words(row.prompt, targets) if append_class_words else row.prompt
        prompts.append(PromptSpec.of(row.caption, text, targets, classes))
    rejections = []
    for caption, reason in judged:
        if reason is None and caption.caption_id not in kept:
            was_drawn = caption.caption_id in drawn
            reason = Reason.LIMIT_REACHED if was_drawn else Reason.NOT_DRAWN
        if reason is not None:
            present = [*map(classes.by_id, by_image.get(caption.image_id, ()))]
            rejections.append(reject(caption, reason, present))
    return prompts, rejections


def clean_published(text: str) -> str:
    """The caption as the published selection writes it (methods 7.2, step 4).

    Its quirks are kept: the order of the strips, "couches" in a sentence becoming "sofaes", and a
    caption that is nothing but "couch" staying one.
    """
    text = text.lower().replace("\n", " ").strip().strip(",").strip(".")
    text = text.replace("motorcycle", "motorbike").replace("airplane", "aeroplane")
    return text.replace("couch ", "sofa ").replace(" couch", " sofa")


def _classes_by_image(instances: InstanceFile) -> dict[int, list[int]]:
    """The VOC ids in each image, each once, in the order of the file."""
    classes: dict[int, dict[int, None]] = {}
    for instance in instances.instances:
        classes.setdefault(instance.image_id, {})[instance.class_id] = None
    return {image_id: list(present) for image_id, present in classes.items()}


def _unfit_images(instances: InstanceFile) -> dict[int, Reason]:
    """The images whose instances are too small or too many (methods 7.2, step 2)."""
    counts: dict[int, int] = {}
    largest: dict[int, float] = {}
    for instance in instances.instances:
        image_id = instance.image_id
        counts[image_id] = counts.get(image_id, 0) + 1
        largest[image_id] = max(largest.get(image_id, 0.0), instance.area)
    unfit = {}
    for image_id, count in counts.items():
        if not largest[image_id] > MIN_AREA:
            unfit[image_id] = Reason.TOO_SMALL
        elif count > MAX_INSTANCES:
            unfit[image_id] = Reason.TOO_MANY_INSTANCES
    return unfit


def _rows(
    captions: Sequence[Caption], present: dict[int, list[int]], classes: ClassSet
) -> list[_Row]:
    """Captions x classes in the published order.

    Grouped by image (of first appearance among the captions) by the first join, by class by the
    second, and by caption by the third, which brings a caption's classes together again.
    """
    by_image = _grouped((caption.image_id, caption) for caption in captions)
    joined = [(class_id, caption) for caption in by_image for class_id in present[caption.image_id]]
    by_class = _grouped((class_id, (class_id, caption)) for class_id, caption in joined)
    by_caption = _grouped((caption.caption_id, (label, caption)) for label, caption in by_class)
    rows = []
    for label, caption in by_caption:
        prompt = clean_published(caption.text)
        rows.append(_Row(caption, prompt, label, classes.by_id(label).phrase in prompt))
    return rows


def _grouped(pairs: Iterable[tuple[int, T]]) -> list[T]:
    """The values, those of equal keys together, keys in the order of first appearance."""
    groups: dict[int, list[T]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return [value for group in groups.values() for value in group]


def _draw(rows: Sequence[_Row]) -> dict[int, _Row]:
    """The drawn rows by caption id, those that name their class first (methods 7.2, step 6)."""
    drawn: dict[int, _Row] = {}
    for included in (True, False):
        state = np.random.RandomState(SEED)
        pool: dict[int, list[_Row]] = {}
        for row in rows:
            if row.word_included is included:
                pool.setdefault(row.class_id, []).append(row)
        for of_class in pool.values():
            chosen = of_class
            if len(of_class) >= PER_POOL:
                picks = state.choice(len(of_class), size=PER_POOL, replace=False)
                chosen = [of_class[pick] for pick in picks]
            for row in chosen:
                drawn.setdefault(row.caption.caption_id, row)
    return drawn
