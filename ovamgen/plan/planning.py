"""The plan of a run: every sample with its key, seed and batch, and every caption left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import target_of
from ovamgen.classes.loading import default_classes, is_default
from ovamgen.config import PlanConfig
from ovamgen.errors import ConfigError, PlanError
from ovamgen.plan.balance import balance
from ovamgen.plan.candidates import JudgedCaptions
from ovamgen.plan.captions import InstanceFile, open_captions, read_captions, read_instances
from ovamgen.plan.coco_cap import select_coco_cap
from ovamgen.plan.extending import PlannedBefore, cut
from ovamgen.plan.keys import sample_key, sample_seed
from ovamgen.plan.plan import APPENDED, Plan, plan_settings
from ovamgen.plan.prompts import PromptSpec, collect_prompts
from ovamgen.records import SampleSpec
from ovamgen.tokenizer import model_tokenizer

__all__ = [
    "Estimate",
    "Plan",
    "estimate",
    "make_plan",
    "plan_settings",
    "sample_key",
    "sample_seed",
]

JPEG_BYTES = 100_000
"""A 512 x 512 JPEG at quality 95, 4:4:4: the middle of the measured 60-140 kB (conventions 3.1)."""
MASK_BYTES = 2_100
"""A 512 x 512 mask with one object as PNG (conventions 3.1)."""
TEXT_BYTES = 1_500
"""The metadata and the caption."""
TAR_BYTES = 4 * 768
"""A header and on average half a block of padding for each of the four members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a plan will come to."""

    images: int
    shards: int
    bytes: int
    """Bytes of all shards together, roughly: JPEGs of textured images vary by a factor of two."""


def make_plan(
    config: PlanConfig,
    *,
    classes: ClassSet | None = None,
    model_id: str = "",
    append_class_words: bool = False,
    after: Plan | None = None,
) -> Plan:
    """The plan that a configuration asks for; reads the captions, and the instances if given.

    Args:
        config: the planning section.
        classes: that may be targets; the default ones where not given.
        model_id: the model that is to draw, for its tokenizer; CLIP's where it is no local folder.
        append_class_words: prompts are captions with the words of their targets behind them.
        after: a plan that it extends. Its samples count for `limit` and `per_class`, and what it
            has is not planned again; the rest is what the configuration would have planned at once.

    Raises:
        PlanError: an input cannot be read, or is not what the preset needs.
        ConfigError: an unknown class is asked for, or the model's tokenizer is damaged.
    """
    classes = classes or default_classes()
    settings = plan_settings(config, append_class_words=append_class_words)
    before = PlannedBefore(after)
    if config.preset == "coco-cap":
        return _plan_preset(config, classes, settings, before)
    tokenizer, max_length = model_tokenizer(model_id)
    captions = open_captions(config.captions)
    inputs = {"captions": captions.sha256}
    instances = _instances(config, classes, inputs)
    wanted = {classes.by_name(name).id: count for name, count in config.wanted.items()}
    with JudgedCaptions(config, classes, before) as judged:
        for item in collect_prompts(
            captions.captions,
            instances,
            config,
            classes,
            tokenizer,
            max_length,
            append_class_words=append_class_words,
        ):
            judged.add(item)
        choice = balance(
            judged.candidates,
            per_class=config.per_class,
            limit=config.limit,
            before=judged.before,
            wanted=wanted or None,
        )
        return Plan.of_tables(
            judged.tables(choice),
            inputs=inputs,
            settings=settings,
            classes=classes,
            first_shard=before.first_shard,
        )


def estimate(plan: Plan, height: int, width: int) -> Estimate:
    """What the plan comes to in images, shards and bytes.

    Images and masks are taken to grow with the number of pixels from their sizes at 512 x 512
    (`JPEG_BYTES`, `MASK_BYTES`); text and tar headers do not grow. Stored heatmaps, metadata files
    and indexes are not counted.

    Args:
        plan: any.
        height: of the images, pixels.
        width: of the images, pixels.
    """
    images = plan.samples
    scale = height * width / 512**2
    each = (JPEG_BYTES + MASK_BYTES) * scale + TEXT_BYTES + TAR_BYTES
    return Estimate(images=images, shards=len(plan.tasks), bytes=round(images * each))


_SET_BY_COCO_CAP = ("classes", "per_class", "wanted", "max_targets", "empty_share", "min_area")


def _plan_preset(
    config: PlanConfig, classes: ClassSet, settings: dict[str, Any], before: PlannedBefore
) -> Plan:
    """The published selection: COCO's captions, few enough to be held at once."""
    if not is_default(classes):
        raise ConfigError(
            f"preset coco-cap is a selection for VOC's classes, got the set {classes.name}: leave "
            "--classes out, or use the preset general"
        )
    captions = read_captions(config.captions)
    inputs = {"captions": captions.sha256}
    instances = _instances(config, classes, inputs)
    if instances is None:
        raise PlanError("preset coco-cap draws by instances, none are given: set plan.instances")
    for name in _SET_BY_COCO_CAP:
        usual = PlanConfig.model_fields[name].get_default(call_default_factory=True)
        if getattr(config, name) != usual:
            raise ConfigError(
                f"preset coco-cap decides plan.{name} itself, got {getattr(config, name)}: "
                "leave it out, or use the preset general"
            )
    taken, rejected = select_coco_cap(
        captions.captions,
        instances,
        classes,
        limit=config.limit,
        append_class_words=APPENDED in settings,
    )
    # what is drawn for a smaller limit comes first in what is drawn for a larger one
    new = [_sample(prompt) for prompt in taken if prompt not in before]
    return Plan(
        tasks=cut(new, config, before.first_shard),
        rejections=rejected,
        inputs=inputs,
        settings=settings,
        classes=classes,
        first_shard=before.first_shard,
    )


def _instances(
    config: PlanConfig, classes: ClassSet, inputs: dict[str, str]
) -> InstanceFile | None:
    """The instances that the configuration names; their digest joins the inputs."""
    if not config.instances:
        return None
    instances = read_instances(config.instances, classes)
    inputs["instances"] = instances.sha256
    return instances


def _sample(prompt: PromptSpec) -> SampleSpec:
    """The prompt as a sample that has no place yet."""
    return SampleSpec(
        key="",
        prompt=prompt.prompt,
        caption=prompt.caption.text,
        targets=tuple(target_of(target) for target in prompt.targets),
        seed=0,
        caption_id=prompt.caption.caption_id,
        image_id=prompt.caption.image_id,
        word_included=prompt.word_included,
        word_included_published=prompt.word_included_published,
    )
