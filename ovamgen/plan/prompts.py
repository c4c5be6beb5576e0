"""What a caption asks for: the prompt after cleaning, its targets, or the reason why it has none.

The general path; the published selection is `ovamgen.plan.coco_cap`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tokenizers import Tokenizer

from ovamgen.classes.class_entry import ClassEntry
from ovamgen.classes.class_set import ClassSet, Mention
from ovamgen.config import PlanConfig
from ovamgen.errors import ConfigError, PlanError
from ovamgen.plan.captions import Caption, InstanceFile
from ovamgen.plan.seen import SeenNumbers
from ovamgen.tokenizer import last_token_index


class Reason(StrEnum):
    """Why a caption is not in the plan."""

    EMPTY = "empty"
    DUPLICATE_ID = "duplicate id"
    DUPLICATE = "duplicate"
    NO_TARGET = "no target"
    NOT_ASKED = "class not asked for"
    TOO_MANY_TARGETS = "too many targets"
    BEYOND_TOKENS = "class word beyond token limit"
    QUOTA_FULL = "quota full"
    LIMIT_REACHED = "limit reached"
    # Of the preset coco-cap:
    NO_INSTANCE = "image without VOC instance"
    TOO_SMALL = "instances too small"
    TOO_MANY_INSTANCES = "too many instances"
    NOT_DRAWN = "not drawn"
    # Of pictures:
    NO_PICTURE = "no such picture"
    NO_ROW = "picture without a row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A caption that was left out, and why."""

    caption_id: int
    image_id: int
    """-1 where the source names no image."""
    caption: str
    """As it stands in the source."""
    reason: Reason
    class_names: tuple[str, ...]
    """Names of the classes it would have had, as far as they were known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSpec:
    """A caption that can become a sample: what to draw, and what is to be seen on it."""

    caption: Caption
    prompt: str
    """The generation prompt: the caption after cleaning."""
    targets: tuple[ClassEntry, ...]
    """Each once; none where the sample is to show no class."""
    word_included: bool
    """Whether there are targets, and the prompt names every one: whole words, plurals, synonyms."""

    @classmethod
    def of(
        cls, caption: Caption, prompt: str, targets: tuple[ClassEntry, ...], classes: ClassSet
    ) -> PromptSpec:
        """The prompt of a caption, once it is known which classes of the set it is to show."""
        named = {mention.entry.id for mention in classes.find(prompt)}
        included = bool(targets) and all(target.id in named for target in targets)
        return cls(caption=caption, prompt=prompt, targets=targets, word_included=included)

    @property
    def word_included_published(self) -> bool:
        """Whether the first target's phrase is a substring of the prompt (methods 7.2, step 5)."""
        return bool(self.targets) and self.targets[0].phrase in self.prompt.lower()

    def reject(self, reason: Reason) -> Rejection:
        """The record that leaves this prompt out of the plan."""
        return reject(self.caption, reason, self.targets)


def reject(caption: Caption, reason: Reason, classes: Sequence[ClassEntry] = ()) -> Rejection:
    """The record that leaves a caption out of the plan."""
    return Rejection(
        caption_id=caption.caption_id,
        image_id=caption.image_id,
        caption=caption.text,
        reason=reason,
        class_names=tuple(entry.name for entry in classes),
    )


def clean_caption(text: str) -> str:
    """The caption as a prompt: one line, single spaces, no stops or commas around it.

    Case and everything else stay: text encoders differ in what they make of them.
    """
    return " ".join(_CONTROL.sub(" ", text).split()).strip(" .,")


def with_class_words(prompt: str, targets: Iterable[ClassEntry]) -> str:
    """The prompt with the words of its targets behind it: ``a crowded street; bus person``.

    Dataset Diffusion (Nguyen et al., NeurIPS 2023), section 3.1.
    """
    return f"{prompt}; {' '.join(target.phrase for target in targets)}"


def collect_prompts(
    captions: Iterable[Caption],
    instances: InstanceFile | None,
    config: PlanConfig,
    classes: ClassSet,
    tokenizer: Tokenizer,
    max_length: int,
    *,
    append_class_words: bool = False,
) -> Iterator[PromptSpec | Rejection]:
    """For each caption, in order, its prompt and targets or the reason why it is left out.

    Of the captions before, their ids and the digests of their prompts are remembered.

    Targets are, the first that applies: the classes that the source states; for an image that the
    instances file lists, the classes with an instance above ``config.min_area``, largest total area
    first; the classes that the prompt names, in its order. Classes that were not asked for are no
    targets, but count for ``config.max_targets``.

    Args:
        captions: in the order of the file; of two with the same id the first is kept, and of
            two that could be samples and have the same prompt (in any case) as well.
        instances: of the same images, or nothing.
        config: `classes`, `max_targets`, `min_area` and `empty_share` are used. With a share, a
            prompt without any word of a class can be a sample without targets.
        classes: that may be targets.
        tokenizer: of the model that is to draw.
        max_length: tokens that the model reads, both markers included. Where targets come from
            words, each must be named before the text is cut off.
        append_class_words: `with_class_words` is what is drawn; it must not be cut off.

    Raises:
        ConfigError: an unknown name in ``config.classes``.
        PlanError: the source states an unknown class.
    """
    asked = {classes.by_name(name).id for name in config.classes}
    by_image = _classes_by_image(instances, config.min_area, classes) if instances else {}
    # The last position is that of <EoT>, in a text that is cut off too.
    last_position = max_length - 2
    ids, prompts = SeenNumbers(), SeenNumbers()
    for caption in captions:
        prompt = clean_caption(caption.text)
        # of a caption's id any 64 bits will do; of a prompt 128 bits of a digest
        number, digest = caption.caption_id % 2**64, _digest(prompt.lower())
        named, mentions = _named_classes(caption, prompt, by_image, classes)
        targets = tuple(entry for entry in named if not asked or entry.id in asked)
        reason = None
        if number in ids:
            reason = Reason.DUPLICATE_ID
        elif not any(character.isalnum() for character in prompt):
            reason = Reason.EMPTY
        elif digest in prompts:
            reason = Reason.DUPLICATE
        elif not named:
            if not (config.empty_share and classes.is_silent(prompt)):
                reason = Reason.NO_TARGET
        elif not targets:
            reason = Reason.NOT_ASKED
        elif len(named) > config.max_targets:
            reason = Reason.TOO_MANY_TARGETS
        elif append_class_words:
            drawn = with_class_words(prompt, targets)
            if _is_beyond(tokenizer, drawn, len(drawn), last_position):
                reason = Reason.BEYOND_TOKENS
        elif mentions and _is_beyond(tokenizer, prompt, _end(mentions, targets), last_position):
            reason = Reason.BEYOND_TOKENS
        ids.add(number)
        if reason is not None:
            yield reject(caption, reason, named)
        else:
            prompts.add(digest)
            worded = append_class_words and targets
            drawn = with_class_words(prompt, targets) if worded else prompt
            yield PromptSpec.of(caption, drawn, targets, classes)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufeff]")


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def _is_beyond(tokenizer: Tokenizer, prompt: str, end: int, last_position: int) -> bool:
    """Whether a token of ``prompt[:end]`` stands behind the last position that is read."""
    if end <= last_position and prompt[:end].isascii():
        # every token takes at least one of the characters: no need to know which
        return False
    return last_token_index(tokenizer, prompt, end) > last_position


def _named_classes(
    caption: Caption,
    prompt: str,
    by_image: Mapping[int, tuple[ClassEntry, ...]],
    classes: ClassSet,
) -> tuple[tuple[ClassEntry, ...], tuple[Mention, ...]]:
    """The classes of a caption, each once, and the mentions they come from, if from words."""
    if caption.classes:
        return _stated_classes(caption, classes), ()
    if caption.image_id in by_image:
        return by_image[caption.image_id], ()
    mentions = classes.find(prompt)
    return _unique(mention.entry for mention in mentions), mentions


def _stated_classes(caption: Caption, classes: ClassSet) -> tuple[ClassEntry, ...]:
    try:
        return _unique(classes.by_name(name) for name in caption.classes)
    except ConfigError as error:
        raise PlanError(f"{caption.place or f'caption {caption.caption_id}'}: {error}") from None


def _unique(entries: Iterable[ClassEntry]) -> tuple[ClassEntry, ...]:
    return tuple({entry.id: entry for entry in entries}.values())


def _classes_by_image(
    instances: InstanceFile, min_area: float, classes: ClassSet
) -> dict[int, tuple[ClassEntry, ...]]:
    """For every image of the file its classes, largest total area first."""
    areas: dict[int, dict[int, float]] = {image_id: {} for image_id in instances.image_ids}
    for instance in instances.instances:
        if instance.area > min_area:
            total = areas.setdefault(instance.image_id, {})
            total[instance.class_id] = total.get(instance.class_id, 0.0) + instance.area
    return {
        image_id: tuple(map(classes.by_id, sorted(total, key=lambda label: (-total[label], label))))
        for image_id, total in areas.items()
    }


def _end(mentions: Sequence[Mention], targets: Sequence[ClassEntry]) -> int:
    """The character after the last word that is needed: each target named once."""
    wanted = {entry.id for entry in targets}
    ends: dict[int, int] = {}
    for mention in mentions:
        if mention.entry.id in wanted:
            ends.setdefault(mention.entry.id, mention.end)
    return max(ends.values())
