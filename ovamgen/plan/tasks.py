"""The plan of a run: every sample with its key, seed and batch, and every caption left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ovamgen.config import PlanConfig
from ovamgen.errors import ConfigError, PlanError
from ovamgen.plan.balance import balance
from ovamgen.plan.captions import Caption, InstanceFile, read_captions, read_instances
from ovamgen.plan.coco_cap import select_coco_cap
from ovamgen.plan.keys import sample_key, sample_seed
from ovamgen.plan.plan_file import pack_plan, unpack_plan
from ovamgen.plan.prompts import PromptSpec, Rejection, collect_prompts
from ovamgen.records import SampleSpec, ShardTask
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

T = TypeVar("T")

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
    """Of all shards together, roughly: JPEGs of textured images vary by a factor of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All samples of a run in their order, and all captions that are not among them."""

    tasks: tuple[ShardTask, ...]
    """One a shard, in the order of the shards; none where no caption makes a sample."""
    rejections: tuple[Rejection, ...]
    inputs: dict[str, str]
    """sha256 by name of what was read: ``captions``, and ``instances`` where given."""
    settings: dict[str, Any]
    """The planning section of the configuration, without the paths."""

    @property
    def specs(self) -> Iterator[SampleSpec]:
        """All samples, in the order of the shards."""
        return (spec for task in self.tasks for spec in task.specs)

    def to_parquet(self) -> bytes:
        """The plan as a Parquet file, one row a caption; equal plans give equal bytes.

        The samples come first, in their order, then what was left out, in the order of the source.
        """
        return pack_plan(self.tasks, self.rejections, inputs=self.inputs, settings=self.settings)

    @classmethod
    def from_parquet(cls, data: bytes) -> Plan:
        """The plan that `to_parquet` wrote.

        Raises:
            PlanError: the bytes are damaged, no plan, or of a schema this version does not know.
        """
        tasks, rejections, inputs, settings = unpack_plan(data)
        return cls(tasks=tasks, rejections=rejections, inputs=inputs, settings=settings)

    def differences(self, config: PlanConfig, inputs: dict[str, str]) -> list[str]:
        """What makes another plan of these settings and inputs, as ``field: old -> new``.

        Paths do not count, digests do.

        Args:
            config: what is asked for now.
            inputs: sha256 by name, of the files as they are now.
        """
        old = {**self.settings, **_prefixed(self.inputs)}
        new = {**plan_settings(config), **_prefixed(inputs)}
        return [
            f"{name}: {old.get(name)} -> {new.get(name)}"
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]


def make_plan(config: PlanConfig, *, model_id: str = "") -> Plan:
    """The plan that a configuration asks for; reads the captions, and the instances if given.

    Args:
        config: the planning section.
        model_id: the model that is to draw, for its tokenizer; CLIP's where it is no local folder.

    Raises:
        PlanError: an input cannot be read, or is not what the preset needs.
        ConfigError: an unknown class is asked for, or the model's tokenizer is damaged.
    """
    tokenizer, max_length = model_tokenizer(model_id)
    captions = read_captions(config.captions)
    inputs = {"captions": captions.sha256}
    instances = None
    if config.instances:
        instances = read_instances(config.instances)
        inputs["instances"] = instances.sha256
    if config.preset == "coco-cap":
        taken, rejected = _select_preset(captions.captions, instances, config)
    else:
        collected = collect_prompts(captions.captions, instances, config, tokenizer, max_length)
        taken, rejected = _balanced(collected, config)
    return Plan(
        tasks=_cut(taken, config),
        rejections=tuple(rejected),
        inputs=inputs,
        settings=plan_settings(config),
    )


def plan_settings(config: PlanConfig) -> dict[str, Any]:
    """The settings that decide a plan, by field; paths are none of them."""
    return config.model_dump(mode="json", exclude={"captions", "instances"})


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
    images = sum(1 for _ in plan.specs)
    scale = height * width / 512**2
    each = (JPEG_BYTES + MASK_BYTES) * scale + TEXT_BYTES + TAR_BYTES
    return Estimate(images=images, shards=len(plan.tasks), bytes=round(images * each))


_SET_BY_COCO_CAP = ("classes", "per_class", "max_targets", "min_area")


def _select_preset(
    captions: Sequence[Caption], instances: InstanceFile | None, config: PlanConfig
) -> tuple[list[PromptSpec], list[Rejection]]:
    if instances is None:
        raise PlanError("preset coco-cap draws by instances, none are given: set plan.instances")
    for name in _SET_BY_COCO_CAP:
        if getattr(config, name) != PlanConfig.model_fields[name].default:
            raise ConfigError(
                f"preset coco-cap decides plan.{name} itself, got {getattr(config, name)}: "
                "leave it out, or use the preset general"
            )
    return select_coco_cap(captions, instances, limit=config.limit)


def _balanced(
    collected: Sequence[PromptSpec | Rejection], config: PlanConfig
) -> tuple[list[PromptSpec], list[Rejection]]:
    """The prompts that are taken, and all rejections in the order of the source."""
    prompts = [item for item in collected if isinstance(item, PromptSpec)]
    taken, left_over = balance(
        prompts, seed=config.seed, per_class=config.per_class, limit=config.limit
    )
    by_id = {rejection.caption_id: rejection for rejection in left_over}
    found = [
        item if isinstance(item, Rejection) else by_id.get(item.caption.caption_id)
        for item in collected
    ]
    return taken, [rejection for rejection in found if rejection is not None]


def _cut(prompts: Sequence[PromptSpec], config: PlanConfig) -> tuple[ShardTask, ...]:
    """The prompts as samples, cut into shards and batches."""
    tasks = []
    for shard_index, in_shard in enumerate(_parts(prompts, config.shard_size)):
        specs = [
            _sample(prompt, sample_key(shard_index, index), config.seed)
            for index, prompt in enumerate(in_shard)
        ]
        batches = tuple(tuple(batch) for batch in _parts(specs, config.batch_size))
        tasks.append(ShardTask(shard_index=shard_index, batches=batches))
    return tuple(tasks)


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _sample(prompt: PromptSpec, key: str, run_seed: int) -> SampleSpec:
    return SampleSpec(
        key=key,
        prompt=prompt.prompt,
        caption=prompt.caption.text,
        targets=tuple(target.target() for target in prompt.targets),
        seed=sample_seed(run_seed, key),
        caption_id=prompt.caption.caption_id,
        image_id=prompt.caption.image_id,
        word_included=prompt.word_included,
        word_included_published=prompt.word_included_published,
    )


def _prefixed(inputs: dict[str, str]) -> dict[str, str]:
    return {f"inputs.{name}": digest for name, digest in inputs.items()}
