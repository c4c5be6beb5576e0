"""The plan of a run that labels pictures: each one with its place, its prompt and its classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ovamgen.classes.class_entry import ClassEntry
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import target_of
from ovamgen.config import PlanConfig
from ovamgen.console.progress import Track, untracked
from ovamgen.errors import ConfigError, PlanError, SampleError
from ovamgen.plan.captions import Caption, open_captions
from ovamgen.plan.extending import cut
from ovamgen.plan.plan import Plan, plan_settings
from ovamgen.plan.prompts import PromptSpec, Reason, Rejection, clean_caption, reject
from ovamgen.records import SampleSpec, SourcePicture
from ovamgen.storage.pictures import PictureSource

LONGEST_SIDES = 4
"""How often the shorter side of a picture may go into the longer one: beyond it memory, which grows
with the pixels, is another than that of any run before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSize:
    """At which size pictures are labelled: the shorter side the model's own, the other to scale."""

    height: int
    """Height of the model's images, or what the run asks for; pixels."""
    width: int
    step: int
    """Sides are multiples of it."""
    fixed: bool = False
    """The run names both sides: every picture is brought to them, whatever its shape."""

    def of(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which a picture of such a size is labelled.

        Raises:
            SampleError: it is far too long for its width.
        """
        if self.fixed:
            return self.height, self.width
        if max(size) > LONGEST_SIDES * min(size):
            raise SampleError(
                f"a picture may be up to {LONGEST_SIDES} times as long as wide, got {size[0]} x "
                f"{size[1]} pixels: cut it into parts"
            )
        scale = min(self.height, self.width) / min(size)
        height, width = (max(self.step, round(s * scale / self.step) * self.step) for s in size)
        return height, width


def plan_pictures(
    config: PlanConfig,
    source: PictureSource,
    size: LabelSize,
    *,
    classes: ClassSet,
    track: Track = untracked,
) -> Plan:
    """The plan that a section asks for, of the pictures of a source, in the order of their names.

    Pictures of one size stand together, so that a batch can hold them; those that cannot be opened
    stand last, with their names, and become recorded failures. Where `PlanConfig.captions` names a
    table, a row tells the classes of its picture, or its caption does; pictures that it does not
    list are left out.

    Args:
        config: the planning section: ``captions``, ``limit``, ``max_targets``, ``seed``,
            ``shard_size`` and ``batch_size`` are used.
        source: of the pictures.
        size: at which they are labelled.
        classes: that are looked for.
        track: shows how many headers have been read.

    Raises:
        PlanError: the table cannot be read, names a picture that is not there, or none that is.
    """
    inputs = {"pictures": source.digest}
    names = list(source.sizes)
    rejections: list[Rejection] = []
    if config.captions:
        told, inputs["captions"], rejections = _told(config, names, classes)
    else:
        everything = ", ".join(entry.phrase for entry in classes.classes)
        told = {name: _Told(prompt=everything, caption="", targets=()) for name in names}
    wanted = [(number, name) for number, name in enumerate(names) if name in told][: config.limit]
    found = [
        _sample(told[name], number, _picture(source, name, size))
        for number, name in track(wanted, len(wanted), "pictures")
    ]
    found.sort(key=_order)
    return Plan(
        tasks=cut(found, config),
        rejections=rejections,
        inputs=inputs,
        settings=plan_settings(config),
        classes=classes,
        pictures=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What is known of a picture without opening it."""

    prompt: str
    caption: str
    targets: tuple[ClassEntry, ...]
    """None where they are to be found."""
    caption_id: int = -1
    image_id: int = -1
    word_included: bool = False


def _told(
    config: PlanConfig, names: Sequence[str], classes: ClassSet
) -> tuple[dict[str, _Told], str, list[Rejection]]:
    """What a table says of pictures that are there, its digest, and the rows that say nothing."""
    stream = open_captions(config.captions, of_pictures=True)
    found, told = _by_any_name(names), dict[str, _Told]()
    rejections = []
    for caption in stream.captions:
        name = found.get(caption.picture)
        if name is None:
            reason: Reason | _Told = Reason.NO_PICTURE
        elif name in told:
            reason = Reason.DUPLICATE
        else:
            reason = _of_row(caption, classes, config.max_targets)
        if name is not None and isinstance(reason, _Told):
            told[name] = reason
        elif isinstance(reason, Reason):
            rejections.append(reject(caption, reason))
    if not told:
        example = PurePosixPath(names[0])
        raise PlanError(
            f"{config.captions} tells of no picture that is there which classes it shows: its "
            f"names must be paths such as {str(example)!r:.80}, and its classes, or the words of "
            f"its captions, of {classes.name}"
        )
    for number, name in enumerate(names):
        if name not in told:
            bare = Caption(caption_id=-1, image_id=number, text=name)
            rejections.append(reject(bare, Reason.NO_ROW))
    return told, stream.sha256, rejections


def _by_any_name(names: Sequence[str]) -> dict[str, str]:
    """Pictures by their paths, and by these without their endings where that is one alone."""
    stems = Counter(str(PurePosixPath(name).with_suffix("")) for name in names)
    bare = {str(PurePosixPath(name).with_suffix("")): name for name in names}
    return {stem: name for stem, name in bare.items() if stems[stem] == 1} | {n: n for n in names}


def _of_row(caption: Caption, classes: ClassSet, max_targets: int) -> _Told | Reason:
    text = clean_caption(caption.text)
    try:
        targets = tuple(dict.fromkeys(classes.by_name(name) for name in caption.classes))
    except ConfigError as error:
        raise PlanError(f"{caption.place}: {error}") from None
    if not targets:
        targets = tuple(dict.fromkeys(mention.entry for mention in classes.find(text)))
        if len(targets) > max_targets:
            return Reason.TOO_MANY_TARGETS
    if not targets:
        return Reason.NO_TARGET
    prompt = text or ", ".join(target.phrase for target in targets)
    spec = PromptSpec.of(caption, prompt, targets, classes)
    return _Told(
        prompt=prompt,
        caption=caption.text,
        targets=targets,
        caption_id=caption.caption_id,
        image_id=caption.image_id,
        word_included=spec.word_included,
    )


def _picture(source: PictureSource, name: str, size: LabelSize) -> SourcePicture:
    """What is planned of a picture; where it cannot be labelled, the engine says why."""
    try:
        height, width = source.size_px(name)
        label_height, label_width = size.of((height, width))
    except SampleError:
        height = width = label_height = label_width = 0
    return SourcePicture(
        name=name,
        size_bytes=source.sizes[name],
        height=height,
        width=width,
        label_height=label_height,
        label_width=label_width,
    )


def _sample(told: _Told, number: int, picture: SourcePicture) -> SampleSpec:
    """The picture as a sample that has no place yet."""
    return SampleSpec(
        key="",
        prompt=told.prompt,
        caption=told.caption,
        targets=tuple(target_of(target) for target in told.targets),
        seed=0,
        caption_id=told.caption_id,
        image_id=number if told.image_id < 0 else told.image_id,
        word_included=told.word_included,
        word_included_published=False,
        picture=picture,
    )


def _order(spec: SampleSpec) -> tuple[bool, int, int]:
    """What cannot be opened last: a run whose first samples all fail stops."""
    picture = spec.picture
    assert picture is not None
    size = picture.label_height, picture.label_width
    return (not all(size), *size)
