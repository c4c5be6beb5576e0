"""Annotated pictures out of a folder of samples, checked before anything is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from ovamgen.classes.loading import as_saved, is_set, load_class_set
from ovamgen.config import RunConfig, build_config
from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import Sample, SampleFolder


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Example:
    """One generated picture and its annotation."""

    sample: Sample
    image: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]

    def digest(self) -> list[str | int]:
        """What identifies it, as plain values."""
        content = [self.image.tobytes(), np.packbits(self.mask).tobytes()]
        hashes = [hashlib.sha256(data).hexdigest() for data in content]
        return [self.sample.key, self.sample.prompt, self.sample.seed, *hashes]


def class_names(names: Sequence[str], folder: SampleFolder) -> tuple[str, ...]:
    """The classes' names in the order of their ids; all that have samples where none are given.

    Args:
        names: any name of classes of the folder; or its class set, by name or file, for all.
        folder: of samples.

    Raises:
        ConfigError: an unknown class, one without a sample in the folder, or another set.
    """
    classes = folder.classes
    if len(names) == 1 and is_set(names[0]):
        if (asked := load_class_set(names[0])) != classes:
            raise ConfigError(
                f"the samples of {folder.root} are of the classes {classes.name}, not of "
                f"{asked.name}: leave --classes out, or draw samples of those"
            )
        names = ()
    there = {sample.class_name for sample in folder.samples}
    wanted = {classes.by_name(name).name for name in names} or there
    if missing := sorted(wanted - there):
        raise ConfigError(
            f"{folder.root} has no sample of {', '.join(missing)} (it has "
            f"{', '.join(sorted(there))}): add one, or leave the class out of --classes"
        )
    return tuple(entry.name for entry in classes.classes if entry.name in wanted)


def annotated(
    folder: SampleFolder, annotations: str | None, class_name: str | None = None
) -> list[Sample]:
    """The samples, of one class or of all, that have an annotation, in the order of the list."""
    return [
        sample
        for sample in folder.samples
        if class_name in (None, sample.class_name)
        and folder.annotation_path(sample, annotations).exists()
    ]


def check_annotated(
    names: Sequence[str], folder: SampleFolder, annotations: str | None, option: str
) -> None:
    """Checks that every class has an annotated sample.

    Args:
        names: of the classes.
        folder: of the samples.
        annotations: the folder of the annotations; the samples' own where None.
        option: the option that named the folder of the samples.

    Raises:
        ConfigError: some have none; the classes that have one are named.
    """
    there = {sample.class_name for sample in annotated(folder, annotations)}
    if not (missing := [name for name in names if name not in there]):
        return
    ways = [f"paint one of each with 'ovamgen annotate --samples {folder.root}'"]
    if some := [name for name in names if name in there]:
        ways.append(f"or give --classes {','.join(some)}")
    raise ConfigError(
        f"{option} {folder.root} has no annotated sample of {', '.join(missing)}: {', '.join(ways)}"
    )


def read_examples(
    folder: SampleFolder,
    annotations: str | None,
    class_name: str,
    limit: int | None = None,
) -> tuple[Example, ...]:
    """The class's first annotated samples with their images, in the order of the folder's list.

    Args:
        folder: of the samples.
        annotations: the folder of the annotations; the samples' own where None.
        class_name: of the class.
        limit: at most this many.

    Raises:
        ConfigError: an image is missing, or it or its annotation is damaged, of another size, not
            of two values, or empty.
    """
    examples = []
    for sample in annotated(folder, annotations, class_name)[:limit]:
        mask = folder.annotation(sample, annotations)
        if mask.all():
            raise ConfigError(
                f"{folder.annotation_path(sample, annotations)} marks every pixel as "
                f"{sample.class_name}: leave some background, or take another sample"
            )
        examples.append(Example(sample=sample, image=folder.image(sample), mask=mask))
    return tuple(examples)


def check_held_out(training: SampleFolder, validation: SampleFolder) -> None:
    """Checks that no picture of one folder is in the other.

    Raises:
        ConfigError: they share prompt and seed, so that nothing would be held out.
    """
    seen = {(sample.prompt, sample.seed): sample.key for sample in training.samples}
    for sample in validation.samples:
        if other := seen.get((sample.prompt, sample.seed)):
            raise ConfigError(
                f"samples to validate on must be held out, but {sample.key} of {validation.root} "
                f"has the prompt and seed of {other} of {training.root}: draw it with another seed"
            )


def drawn_with(
    folder: SampleFolder, model: str | None, given: Mapping[str, Mapping[str, object]]
) -> RunConfig:
    """The configuration that drew the folder's samples, for their queries to be drawn again.

    Args:
        folder: its ``synthesis.yaml`` decides model and synthesis.
        model: the model that was asked for, or None for the folder's own.
        given: sections that may change: device, branch, runtime; None where nothing is given.

    Raises:
        ConfigError: another model was asked for, or the folder's settings are not usable.
    """
    recorded = {name: dict(values) for name, values in folder.settings.items()}
    recorded |= as_saved(folder.classes)
    own = recorded.get("model", {}).get("id")
    if not isinstance(own, str):
        raise ConfigError(f"{folder.root}/synthesis.yaml must name the model: 'model: {{id: ...}}'")
    changes = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in given.items()
    }
    if changes.get("model", {}).get("device") not in (None, recorded["model"].get("device")):
        # the precision is the device's: halves on CUDA, float32 on CPU
        recorded["model"].pop("dtype", None)
    config = build_config(recorded, changes)
    if model is not None:
        asked = build_config({"model": {"id": model, "device": config.model.device}}).model
        if (asked.id, asked.revision or config.model.revision) != (
            config.model.id,
            config.model.revision,
        ):
            raise ConfigError(
                f"the samples of {folder.root} were drawn with {_named(config)}, but --model is "
                f"{model}: tokens are learnt and scored on the drawing of the same model. Give "
                "--model as the samples have it, draw others with 'ovamgen samples', or, where the "
                "folder of that model was moved, correct synthesis.yaml"
            )
    return config


def _named(config: RunConfig) -> str:
    return config.model.id + (f"@{config.model.revision}" if config.model.revision else "")
