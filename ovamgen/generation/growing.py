"""A corpus that is extended until enough samples of every class pass a selection.

Each round is an extension of its own, planned from what the rounds before it gave, so that a loop
that was killed goes on with the same command and ends in the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ovamgen.classes.class_set import ClassSet
from ovamgen.config import RunConfig
from ovamgen.console.wording import counted
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.select.filters import SelectionSettings, judge
from ovamgen.corpus.select.table import read_candidates
from ovamgen.errors import ConfigError, IncompleteError
from ovamgen.generation import Outcome, generate
from ovamgen.plan.extending import PlannedBefore
from ovamgen.run.asked import NothingToAddError
from ovamgen.run.bad_samples import EngineFactory
from ovamgen.run.files import read_plan, read_run_files, saved_config
from ovamgen.storage.store import Store, open_store

_MOST_FOR_EACH = 10
"""Samples that one round plans for each that a class lacks, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """What the loop left."""

    outcome: Outcome
    """Outcome of the last round."""
    rounds: int
    """Extensions that this process made."""
    per_class: int
    selected: dict[str, int]
    """Samples of each class that pass, by its name."""
    ended: str
    """Why there was no further round; "" where every class has enough."""

    @property
    def short(self) -> dict[str, int]:
        """Samples that classes lack, by their names."""
        lacking = {name: self.per_class - count for name, count in self.selected.items()}
        return {name: count for name, count in lacking.items() if count > 0}

    def lines(self) -> list[str]:
        """As text for people."""
        text = [*self.outcome.lines(), f"extensions     {self.rounds}"]
        fewest = min(self.selected.values(), default=0)
        text.append(f"selected       at least {fewest} of each class, {self.per_class} asked for")
        return text

    def check_complete(self) -> None:
        """Raises IncompleteError where a class has too few samples."""
        if self.short:
            lacking = ", ".join(f"{name} {count}" for name, count in self.short.items())
            raise IncompleteError(f"too few samples pass (lacking: {lacking}): {self.ended}")


def generate_until(
    config: RunConfig,
    *,
    per_class: int,
    budget: int,
    extend: bool = False,
    factory: EngineFactory | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> Grown:
    """The corpus of a configuration, extended for the classes that fall short.

    Which samples pass is decided as `ovamgen select` does by default. Each round asks, for each
    class that is short, for as many further samples as it lacks, divided by the share of its
    samples that passed so far.

    Args:
        config: resolved.
        per_class: samples of each class that are to pass.
        budget: samples that the corpus may have in all, whether they pass or not.
        extend: the configuration itself may extend the corpus of another one.
        factory: loads what draws; the real engine where not given.
        say: told what goes on.

    Raises:
        ConfigError: a budget that cannot be enough, or as for `generate`.
        OvamgenError: as for a run.
    """
    classes = _asked_classes(config)
    if budget < per_class:
        raise ConfigError(f"--budget must be at least --until-per-class, {per_class}, got {budget}")
    if config.plan.wanted:
        raise ConfigError("plan.wanted is what --until-per-class decides: leave it out")
    store = open_store(config.out)
    under_way = _under_way(store, config)
    outcome = generate(under_way or config, factory, extend=extend and under_way is None)
    rounds = 0
    while True:
        before = PlannedBefore(read_plan(store))
        selected = _selected(config.out)
        lacking = {n: per_class - selected[n] for n in classes if selected[n] < per_class}
        ended = ""
        if lacking and before.samples >= budget:
            ended = f"the budget of {counted(budget, 'sample')} is spent"
        elif lacking:
            wanted = {
                name: planned + _further(count, planned, selected[name])
                for name, count in lacking.items()
                for planned in (before.by_class[config.classes.by_name(name).id],)
            }
            say(
                f"fewer than {per_class} samples pass, lacking: "
                + ", ".join(f"{name} {count}" for name, count in lacking.items())
            )
            try:
                outcome = generate(_round(config, wanted, budget), factory, extend=True)
            except NothingToAddError:
                ended = f"no other caption of {config.plan.captions} names these classes"
            else:
                rounds += 1
                continue
        return Grown(
            outcome=outcome,
            rounds=rounds,
            per_class=per_class,
            selected={name: selected[name] for name in classes},
            ended=ended,
        )


def _asked_classes(config: RunConfig) -> list[str]:
    """Names of the classes that may be targets."""
    of_set: ClassSet = config.classes
    asked = {of_set.by_name(name).name for name in config.plan.classes}
    return [entry.name for entry in of_set.classes if not asked or entry.name in asked]


def _round(config: RunConfig, wanted: dict[str, int], budget: int) -> RunConfig:
    plan = {"wanted": wanted, "limit": budget, "per_class": None}
    return config.model_copy(update={"plan": config.plan.model_copy(update=plan)})


def _under_way(store: Store, config: RunConfig) -> RunConfig | None:
    """The last round of a loop that this configuration began; None where it began none."""
    runs = read_run_files(store)
    if not runs:
        return None
    last = saved_config(runs[-1], config.out)
    if not last.plan.wanted:
        return None
    limits = {"wanted": last.plan.wanted, "limit": last.plan.limit, "per_class": None}
    return config.model_copy(update={"plan": config.plan.model_copy(update=limits)})


def _selected(out: str) -> Counter[str]:
    """How many samples of each class, by its name, the selection keeps."""
    corpus = open_corpus(out)
    candidates = read_candidates(corpus)
    kept = judge(candidates, SelectionSettings()).kept
    ids = candidates.class_ids[kept[candidates.sample]].tolist()
    return Counter(corpus.classes.by_id(class_id).name for class_id in ids)


def _further(lacking: int, planned: int, passed: int) -> int:
    """How many further samples of a class are to be planned, by the share that passed so far.

    As if one more had passed: a class of which none did has a share as well.
    """
    return min(-(-lacking * (planned + 1) // (passed + 1)), lacking * _MOST_FOR_EACH)
