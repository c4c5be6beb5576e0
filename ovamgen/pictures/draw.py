"""A folder of samples drawn for people to annotate: the VOC-sim way and the COCO-cap way.

Which prompts and seeds (methods 7.1, 7.2), and the drawing of those whose picture is missing. Each
picture is drawn alone, so that it is a function of its own row of the list and of nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ovamgen.classes.class_entry import ClassEntry
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import default_classes, is_default
from ovamgen.config import RunConfig
from ovamgen.diffusion.pipeline import check_model, load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.opened_model import use_repeatable_arithmetic
from ovamgen.errors import ConfigError, IncompleteError
from ovamgen.pictures.sample_folder import SAMPLES, Sample, SampleFolder
from ovamgen.records import SampleSpec

PROMPT = "A photograph of a {class}"
"""The prompt of VOC-sim (methods 7.1), whose aeroplane has the article "a"."""
INITIAL_SEED = 1996
"""Seed of the published drawing of seeds (methods 7.1)."""
_PLACEHOLDER = "{class}"
_WITH_ARTICLE = re.compile(r"\b(a) \{class\}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSamples:
    """What is in the folder now, and what this call added."""

    folder: SampleFolder
    drawn: int
    """Pictures that this call drew."""
    found: int
    """Pictures that were there before."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why a picture is missing, by key."""

    def lines(self) -> list[str]:
        """As text for people."""
        root = self.folder.root
        text = [
            f"samples        {root} ({len(self.folder.samples)}; {self.drawn} drawn now, "
            f"{self.found} there before)"
        ]
        text += [f"failed         {key}: {reason}" for key, reason in self.failures.items()]
        return [*text, f"annotate them  ovamgen annotate --samples {root}"]

    def check_complete(self) -> None:
        """Checks that every picture was drawn.

        Raises:
            IncompleteError: some could not be drawn.
        """
        if self.failures:
            raise IncompleteError(
                f"{len(self.failures)} of {len(self.folder.samples)} samples could not be drawn: "
                f"another seed, or remove their rows from {self.folder.root / SAMPLES}"
            )


def class_samples(
    *,
    per_class: int,
    classes: ClassSet | None = None,
    names: Sequence[str] = (),
    prompt: str = PROMPT,
    seed: int = INITIAL_SEED,
    to_the_letter: bool = False,
) -> tuple[Sample, ...]:
    """The samples of VOC-sim: one prompt, every class of it equally often (methods 7.1).

    Seeds are one draw of ``per_class`` numbers below 2**32 - 1 for each class of the set by numpy's
    RandomState, dealt to the classes by id (VOC's in the authors' order, tv before train). A choice
    of classes takes theirs, so a sample is the same whichever other classes are drawn.

    Args:
        per_class: samples of each class.
        classes: the set; the default one where not given.
        names: of a choice of them, any name will do; all where empty.
        prompt: holds ``{class}``, which becomes the class's phrase, ``dining table``, or one of
            its phrases after the other; "a" before it becomes "an" where it asks for that.
        seed: of the draw, 0 <= seed < 2**32.
        to_the_letter: "a" stays as it is, as in the published prompts: ``a aeroplane``.

    Raises:
        ConfigError: a prompt without place for the class, an unknown class, a number out of range.
    """
    if _PLACEHOLDER not in prompt:
        raise ConfigError(f"the prompt must hold '{_PLACEHOLDER}', got '{prompt[:60]}'")
    if per_class < 1:
        raise ConfigError(f"at least one sample a class is needed, got --per-class {per_class}")
    classes = classes or default_classes()
    wanted = {classes.by_name(name).id for name in names}
    ordered = published_order(classes)
    seeds = _draw_seeds(seed, per_class * len(ordered)).reshape(len(ordered), per_class)
    samples = []
    for place, entry in enumerate(ordered):
        if wanted and entry.id not in wanted:
            continue
        for number, drawn in enumerate(seeds[place]):
            # a super-class is drawn as each of its phrases in turn
            phrase = entry.attributed[number % len(entry.attributed)]
            text = prompt
            if not to_the_letter and entry.in_sentence(phrase).startswith("an "):
                text = _WITH_ARTICLE.sub(r"\1n {class}", text)
            text = text.replace(_PLACEHOLDER, phrase)
            samples.append(
                Sample(
                    key=f"{entry.name}-{number:03d}",
                    class_name=entry.name,
                    prompt=text,
                    seed=int(drawn),
                    word_included=phrase in text.lower(),
                )
            )
    return tuple(samples)


def caption_samples(specs: Iterable[SampleSpec], *, seed: int = INITIAL_SEED) -> tuple[Sample, ...]:
    """The samples of a plan of captions, each for its first target (methods 7.2, step 7).

    Args:
        specs: of the plan, in its order; seeds are drawn in that order and not taken from it.
        seed: of the draw, 0 <= seed < 2**32.

    Raises:
        ConfigError: the plan is empty, or the seed out of range.
    """
    planned = list(specs)
    if not planned:
        raise ConfigError("no caption becomes a sample: see 'ovamgen plan' for why")
    seeds = _draw_seeds(seed, len(planned))
    return tuple(
        Sample(
            key=f"{spec.targets[0].class_name}-{spec.caption_id}",
            class_name=spec.targets[0].class_name,
            prompt=spec.prompt,
            seed=int(drawn),
            word_included=spec.word_included_published,
        )
        for spec, drawn in zip(planned, seeds, strict=True)
    )


def published_order(classes: ClassSet) -> tuple[ClassEntry, ...]:
    """The classes by id; VOC's as the OVAM authors order them, tv before train (0.5)."""
    ordered = list(classes.classes)
    if is_default(classes):
        # the last two, of which the authors' names are sorted
        ordered[-2:] = reversed(ordered[-2:])
    return tuple(ordered)


def draw_samples(
    config: RunConfig,
    samples: Sequence[Sample],
    out: str | Path,
    *,
    on_start: Callable[[int, int], None] | None = None,
    on_picture: Callable[[], None] | None = None,
) -> DrawnSamples:
    """Draws the samples whose picture the folder lacks; the same call goes on after a stop.

    Args:
        config: the sections model, synthesis and runtime count.
        samples: what the folder is to hold.
        out: the folder; one that holds the same samples already is completed.
        on_start: told how many pictures there are in all and how many are there, once the model is
            loaded.
        on_picture: called after each picture.

    Raises:
        ConfigError: no such model, or the folder holds samples of other prompts, seeds or settings.
    """
    root = Path(out)
    settings = sample_settings(config)
    folder = _existing(root, samples, settings, config.classes)
    checked = config.synthesis.safety == "drop"
    check_model(config.model, safety=checked)
    missing = [s for s in samples if folder is None or not folder.image_path(s).exists()]
    if folder is not None and not missing:
        return DrawnSamples(folder=folder, drawn=0, found=len(samples))
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    synthesiser = Synthesiser(load_pipeline(config.model, safety=checked), config.synthesis)
    if folder is None:
        folder = SampleFolder.create(root, samples, settings, config.classes)
    if on_start is not None:
        on_start(len(samples), len(samples) - len(missing))
    failures = {}
    for sample in missing:
        drawn = synthesiser.draw([sample.prompt], [sample.seed])
        if drawn.errors[0] is not None:
            failures[sample.key] = str(drawn.errors[0])
        elif checked and drawn.unsafe[0]:
            failures[sample.key] = "the safety checker flagged the image"
        else:
            folder.add_image(sample, drawn.images[0])
        if on_picture is not None:
            on_picture()
    return DrawnSamples(
        folder=folder,
        drawn=len(missing) - len(failures),
        found=len(samples) - len(missing),
        failures=failures,
    )


def sample_settings(config: RunConfig) -> dict[str, Any]:
    """The sections that draw a sample, as plain values: ``synthesis.yaml``."""
    return {
        "model": config.model.model_dump(mode="json"),
        "synthesis": config.synthesis.model_dump(mode="json"),
    }


def _draw_seeds(seed: int, count: int) -> np.ndarray:
    if not 0 <= seed < 2**32:
        raise ConfigError(f"the seed of a drawing of seeds must be in [0, 2**32), got {seed}")
    return np.random.RandomState(seed).randint(0, 2**32 - 1, size=count, dtype=np.int64)


def _existing(
    root: Path, samples: Sequence[Sample], settings: dict[str, Any], classes: ClassSet
) -> SampleFolder | None:
    """The folder as an earlier call left it, or None; it must hold what is asked for."""
    if not (root / SAMPLES).exists():
        return None
    folder = SampleFolder.open(root)
    changed = []
    if folder.classes != classes:
        changed.append(f"classes: {folder.classes.identity} -> {classes.identity}")
    for section, values in settings.items():
        before = folder.settings.get(section, {})
        changed += [
            f"{section}.{name}: {before.get(name)} -> {value}"
            for name, value in values.items()
            if before.get(name) != value
        ]
    rows = zip(folder.samples, samples, strict=False)
    other = next((f"{a.key}: {a} -> {b}" for a, b in rows if a != b), "")
    if other:
        changed.append(other)
    elif len(folder.samples) != len(samples):
        changed.append(f"{len(folder.samples)} samples -> {len(samples)}")
    if changed:
        raise ConfigError(
            f"{root} holds other samples than are asked for ({'; '.join(changed[:3])}): "
            "give the same options to go on with it, or another --out"
        )
    return folder
