"""The best recipe of the grid on one part of the pictures, and what it is worth on the other.

Every recipe is scored at all thresholds without dense CRF. The best few, and ``ovam`` itself, are
then scored with it as well, at thresholds near their best one: ``ovam`` has its threshold and its
CRF tuned just as the recipe has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ovamgen.console.progress import Progress
from ovamgen.errors import MethodError
from ovamgen.evaluate.comparison import Parts
from ovamgen.evaluate.judging import Judged, judge
from ovamgen.evaluate.recipe.grid import OVAM, Recipe, with_recipe
from ovamgen.evaluate.recording import MapSource
from ovamgen.evaluate.scoring import Interval, IouTable, iou_table, miou, miou_difference
from ovamgen.evaluate.setups import Setup
from ovamgen.masks.iou import TAUS
from ovamgen.pictures.picture_set import PictureSet

FINALISTS = 3
"""Recipes that are scored with the dense CRF too, beside `OVAM`."""
CRF_STEPS = 3
"""Thresholds of `TAUS` on either side of the best one that they are scored at with it."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Trial:
    """A recipe with a threshold, with or without dense CRF, and its score where it is chosen."""

    recipe: Recipe
    tau: float
    crf: bool
    miou: float
    """Foreground mIoU on the tuning part; NaN where nothing could be scored."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reported:
    """A trial on the pictures that it was not chosen on."""

    trial: Trial
    judged: Judged
    table: IouTable


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Found:
    """What the search found with words, or with tokens."""

    setup: Setup
    trials: tuple[Trial, ...]
    """Every recipe without dense CRF, at its best threshold, in the order of the grid."""
    finals: tuple[Trial, ...]
    """The best recipes and `OVAM` with dense CRF, each at its best threshold."""
    ovam: Reported
    chosen: Reported
    gain: Interval | None
    """How much larger the mIoU of the chosen recipe is than that of `OVAM`, drawn together."""

    @property
    def verdict(self) -> str:
        """``beats``, ``level``, ``worse``, or ``none`` where `OVAM` itself was best."""
        if self.chosen.trial.recipe == OVAM:
            return "none"
        if self.gain is not None and self.gain.low > 0:
            return "beats"
        return "worse" if self.gain is not None and self.gain.high < 0 else "level"


def search(
    parts: Parts,
    setup: Setup,
    grid: Sequence[Recipe],
    tuning: MapSource,
    reporting: MapSource,
    *,
    draws: int,
    seed: int,
    counting: Progress,
) -> Found:
    """The best recipe of the grid for a setup.

    Args:
        parts: the pictures that it is chosen on, and those that it is reported on.
        setup: of ``ovam`` with words or with tokens.
        grid: recipes, `OVAM` first.
        tuning: maps of the former pictures.
        reporting: maps of the latter.
        draws: of the bootstrap.
        seed: of the bootstrap.
        counting: is told of every recipe that was scored.

    Raises:
        MethodError: no picture has a map.
    """
    tune, report = held(parts.tune), held(parts.report)
    trials = []
    for recipe in grid:
        judged = judge(tune, with_setup(setup, recipe), tuning, crf=False, only=parts.tune_keys)
        trials.append(_best_plain(recipe, judged))
        counting.add()
    if not np.isfinite([trial.miou for trial in trials]).any():
        raise MethodError(f"no picture that recipes are chosen on has a map by {setup.tokens}")
    finals: list[Trial] = []
    for trial in [*_best(trials, FINALISTS), trials[0]]:
        if all(trial.recipe != final.recipe for final in finals):
            finals.append(_best_refined(tune, setup, trial, tuning, parts.tune_keys))
        counting.add()
    everything = [*trials, *finals]
    [best] = _best(everything, 1)
    [ovam] = _best([trial for trial in everything if trial.recipe == OVAM], 1)
    chosen = _report(report, setup, best, reporting, parts.report_keys, draws, seed)
    plain = chosen
    if best is not ovam:
        plain = _report(report, setup, ovam, reporting, parts.report_keys, draws, seed)
    return Found(
        setup=setup,
        trials=tuple(trials),
        finals=tuple(finals),
        ovam=plain,
        chosen=chosen,
        gain=miou_difference(plain.judged.final, chosen.judged.final, draws=draws, seed=seed),
    )


def scorings(grid: Sequence[Recipe]) -> int:
    """How many things `search` tells of."""
    return len(grid) + FINALISTS + 1


def with_setup(setup: Setup, recipe: Recipe) -> Setup:
    """The setup with a recipe, under the same name."""
    return replace(setup, config=with_recipe(setup.config, recipe))


def held(pictures: PictureSet) -> PictureSet:
    """The pictures with their pixels in memory once they are read."""
    return replace(
        pictures, load_image=cache(pictures.load_image), load_truth=cache(pictures.load_truth)
    )


def _best_plain(recipe: Recipe, judged: Judged) -> Trial:
    mious, tau = judged.mious(), judged.best_tau()
    score = float(mious[TAUS.index(tau)]) if tau in TAUS else float("nan")
    return Trial(recipe=recipe, tau=tau, crf=False, miou=score)


def _best_refined(
    tune: PictureSet, setup: Setup, trial: Trial, source: MapSource, keys: Collection[str]
) -> Trial:
    place = TAUS.index(trial.tau)
    tried = [
        replace(trial, tau=tau, crf=True, miou=miou(judged.final))
        for tau in TAUS[max(0, place - CRF_STEPS) : place + CRF_STEPS + 1]
        for judged in [
            judge(tune, with_setup(setup, trial.recipe), source, tau=tau, crf=True, only=keys)
        ]
    ]
    return _best(tried, 1)[0]


def _report(
    pictures: PictureSet,
    setup: Setup,
    trial: Trial,
    source: MapSource,
    keys: Collection[str],
    draws: int,
    seed: int,
) -> Reported:
    recipe = with_setup(setup, trial.recipe)
    judged = judge(pictures, recipe, source, tau=trial.tau, crf=trial.crf, only=keys)
    return Reported(
        trial=trial, judged=judged, table=iou_table(judged.final, draws=draws, seed=seed)
    )


def _best(trials: Sequence[Trial], count: int) -> list[Trial]:
    """The trials of the largest mIoU, of equal ones those that come first."""
    scored = [trial for trial in trials if np.isfinite(trial.miou)]
    return sorted(scored, key=lambda trial: -trial.miou)[:count]
