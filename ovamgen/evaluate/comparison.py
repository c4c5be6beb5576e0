"""All methods, with words and with tokens, on one data set: ``ovamgen evaluate compare``.

Thresholds are tuned on one part of the pictures and reported on the other; those of the presets are
reported beside them, on the same pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovamgen.console.progress import Progress
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.errors import ConfigError
from ovamgen.evaluate.judging import Judged, judge
from ovamgen.evaluate.recording import Recordings, check_strength_for, record
from ovamgen.evaluate.scoring import BOOTSTRAP_DRAWS, Interval, IouTable, iou_table, miou_difference
from ovamgen.evaluate.setups import Setup, check_classes
from ovamgen.pictures.picture_set import Picture, PictureSet


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Line:
    """One setup's results on the pictures that are reported on."""

    setup: Setup
    fixed: Judged
    """At the preset's threshold."""
    tuned: Judged
    """At the threshold that was best on the tuning part."""
    tuning: Judged
    """On the tuning part."""
    fixed_table: IouTable
    tuned_table: IouTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What tokens gain over words by one method and preset."""

    preset: str
    fixed: Interval | None
    tuned: Interval | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Comparison:
    """Everything that a comparison found."""

    pictures: PictureSet
    """Pictures that are reported on; the tuning part may be among them."""
    reported: tuple[Picture, ...]
    tuned_on: str
    """In words, for the tables."""
    tuning_pictures: int
    recordings: Recordings
    lines: tuple[Line, ...]
    gains: tuple[Gain, ...]
    strength: float
    draws: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Parts:
    """The pictures that thresholds are tuned on, and those that are reported on."""

    report: PictureSet
    report_keys: frozenset[str]
    tune: PictureSet
    tune_keys: frozenset[str]
    told: str


def split_by_hash(pictures: PictureSet, fraction: float) -> Parts:
    """A part of the pictures to tune on, told by their keys alone, and the rest to report on.

    Args:
        pictures: all.
        fraction: about how many of them are tuned on, between 0 and 1.

    Raises:
        ConfigError: a fraction out of range, or a part without pictures.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"--tune-fraction must be between 0 and 1, got {fraction:g}")
    keys = [picture.key for picture in pictures.pictures]
    tune = frozenset(key for key in keys if _share(key) < fraction)
    report = frozenset(keys) - tune
    if not tune or not report:
        raise ConfigError(
            f"{len(keys)} pictures cannot be parted into some to tune on and some to report on: "
            "more pictures are needed, or another --tune-fraction"
        )
    told = (
        f"a part of {len(tune)} pictures told by the hash of their keys (--tune-fraction "
        f"{fraction:g}), none of which is reported on"
    )
    return Parts(report=pictures, report_keys=report, tune=pictures, tune_keys=tune, told=told)


def undivided(pictures: PictureSet) -> Parts:
    """All pictures, to tune on and to report on: what is tuned flatters itself."""
    keys = frozenset(picture.key for picture in pictures.pictures)
    return Parts(
        report=pictures,
        report_keys=keys,
        tune=pictures,
        tune_keys=keys,
        told="these very pictures, which flatters it: go by the thresholds of the presets",
    )


def split_by_name(pictures: PictureSet, tune: PictureSet) -> Parts:
    """Another split to tune on.

    Raises:
        ConfigError: it is the same one, or shares pictures with it.
    """
    digests = {picture.digest for picture in pictures.pictures}
    if shared := [picture.key for picture in tune.pictures if picture.digest in digests]:
        raise ConfigError(
            f"--tune-split {tune.split} must share no picture with the split that is reported on, "
            f"it shares {len(shared)} such as {shared[0]}"
        )
    return Parts(
        report=pictures,
        report_keys=frozenset(picture.key for picture in pictures.pictures),
        tune=tune,
        tune_keys=frozenset(picture.key for picture in tune.pictures),
        told=f"the {len(tune.pictures)} pictures of the split {tune.split}",
    )


def compare(
    parts: Parts,
    setups: Sequence[Setup],
    out: Path,
    *,
    strength: float,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    counting: Progress | None = None,
) -> Comparison:
    """Records and judges all setups; the maps are kept in the folder, so that a rerun goes on.

    Args:
        parts: the pictures.
        setups: all for one model.
        out: the folder whose ``maps`` are filled.
        strength: of image-to-image, for real pictures.
        draws: of the bootstrap.
        seed: of the bootstrap.
        counting: is told of the drawings of each part, and of each setup before it is judged.

    Raises:
        ConfigError: something does not fit, or the folder cannot be written.
        MethodError: a method cannot be recorded on this model.
    """
    sets = [parts.report] if parts.tune is parts.report else [parts.report, parts.tune]
    for pictures in sets:
        check_strength_for(pictures, setups, strength)
        check_classes(setups, pictures.pictures)
    loaded = load_pipeline(setups[0].config.model)
    recordings = [
        record(pictures, setups, out, strength=strength, loaded=loaded, counting=counting)
        for pictures in sets
    ]
    lines = []
    for setup in setups:
        if counting is not None:
            counting.say(f"scoring {setup.name}")
        lines.append(_line(parts, setup, recordings, draws, seed))
    return Comparison(
        pictures=parts.report,
        reported=tuple(p for p in parts.report.pictures if p.key in parts.report_keys),
        tuned_on=parts.told,
        tuning_pictures=len(parts.tune_keys),
        recordings=recordings[0],
        lines=tuple(lines),
        gains=_gains(lines, draws, seed),
        strength=strength,
        draws=draws,
        seed=seed,
    )


def _line(
    parts: Parts, setup: Setup, recordings: Sequence[Recordings], draws: int, seed: int
) -> Line:
    tuning = judge(parts.tune, setup, recordings[-1], crf=False, only=parts.tune_keys)
    fixed = judge(parts.report, setup, recordings[0], only=parts.report_keys)
    tau = tuning.best_tau()
    tuned = fixed
    if tau != setup.tau:
        tuned = judge(parts.report, setup, recordings[0], tau=tau, only=parts.report_keys)
    return Line(
        setup=setup,
        fixed=fixed,
        tuned=tuned,
        tuning=tuning,
        fixed_table=iou_table(fixed.final, draws=draws, seed=seed),
        tuned_table=iou_table(tuned.final, draws=draws, seed=seed),
    )


def _gains(lines: Sequence[Line], draws: int, seed: int) -> tuple[Gain, ...]:
    """Tokens against words on the same pictures, preset by preset."""
    by_preset: dict[str, dict[bool, Line]] = {}
    for line in lines:
        preset = line.setup.config.masks.preset
        by_preset.setdefault(preset, {})[line.setup.words] = line
    return tuple(
        Gain(
            preset=preset,
            fixed=miou_difference(
                pair[True].fixed.final, pair[False].fixed.final, draws=draws, seed=seed
            ),
            tuned=miou_difference(
                pair[True].tuned.final, pair[False].tuned.final, draws=draws, seed=seed
            ),
        )
        for preset, pair in by_preset.items()
        if len(pair) == 2
    )


def figure_pictures(pictures: Sequence[Picture], count: int) -> tuple[Picture, ...]:
    """Pictures for a figure: one of each class in turn, by key, whatever they look like.

    Only pictures with one class are taken where there are enough of them, so that what a map shows
    is plain.
    """
    single = [picture for picture in pictures if len(picture.targets) == 1]
    pool = single if len(single) >= count else list(pictures)
    by_class: dict[int, list[Picture]] = {}
    for picture in sorted(pool, key=lambda picture: picture.key):
        by_class.setdefault(picture.targets[0].entry.id, []).append(picture)
    ids = sorted(by_class)
    if len(ids) > count:
        # classes spread evenly over the ids, so that no end of the list is favoured
        ids = [ids[place * len(ids) // count] for place in range(count)]
    turns = range(max(map(len, by_class.values()), default=0))
    queue = [by_class[i][turn] for turn in turns for i in ids if turn < len(by_class[i])]
    return tuple(queue[:count])


def _share(key: str) -> float:
    """A number in [0, 1) that is a function of the key."""
    digest = hashlib.sha256(f"tune:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
