"""``ovamgen evaluate recipe``, from what is asked for to the preset files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ovamgen.config import RunConfig, merge
from ovamgen.console.progress import Progress
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.errors import ConfigError
from ovamgen.evaluate.compare import (
    QUICK_DRAWS,
    QUICK_PICTURES,
    QUICK_STEPS,
    Build,
    CompareRequest,
    asked_drawing,
    prepared,
)
from ovamgen.evaluate.comparison import Parts
from ovamgen.evaluate.recipe.grid import HIGHEST, recipes, stretches_below
from ovamgen.evaluate.recipe.recording import PartRecordings, record_parts
from ovamgen.evaluate.recipe.report import (
    Searched,
    preset_text,
    summary_lines,
    to_json,
    to_markdown,
)
from ovamgen.evaluate.recipe.search import scorings, search
from ovamgen.evaluate.recording import check_strength_for
from ovamgen.evaluate.setups import Setup, check_classes, configure, make_setup
from ovamgen.evaluate.tables import write_json, write_text

NAME = "recipe"
_QUICK_REMARK = (
    f"This is a quick look (--quick): at most {QUICK_PICTURES} pictures a split, {QUICK_STEPS} "
    f"steps for real pictures where no other number is given, {QUICK_DRAWS} bootstrap draws, a "
    "small grid."
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Written:
    """A search that was written."""

    searched: Searched
    out: Path
    presets: tuple[str, ...]
    """Names of the preset files."""
    data: dict[str, Any]
    """As in ``recipe.json``."""

    def lines(self) -> list[str]:
        """As text for people."""
        files = ", ".join([*self.presets, f"{NAME}.md", f"{NAME}.json"])
        return [*summary_lines(self.searched), f"written to {self.out}: {files}"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Recorded:
    """Pictures drawn and recorded, before the search."""

    request: CompareRequest
    parts: Parts
    setups: tuple[Setup, ...]
    recordings: tuple[PartRecordings, ...]
    """Parts of the pictures that recipes are chosen on, and of those that are reported on where
    they are another set."""
    highest: int
    """Timestep up to which pictures were noised."""


def record_pictures(request: CompareRequest, build: Build, counting: Progress) -> Recorded:
    """Draws every picture once; what was recorded stays in ``out/parts`` for a search to go on.

    Args:
        request: what is asked for; presets and heads are not looked at.
        build: resolves the sections of a configuration.
        counting: is told of the drawings.

    Raises:
        ConfigError: something does not fit, or the folder cannot be written.
        MethodError: attention cannot be recorded on this model.
    """
    request, parts = prepared(request)
    setups = _setups(request, parts, build)
    sets = [parts.tune] if parts.tune is parts.report else [parts.tune, parts.report]
    for pictures in sets:
        check_strength_for(pictures, setups, request.strength)
        check_classes(setups, pictures.pictures)
    highest = round(request.strength * HIGHEST) if parts.report.kind == "voc" else HIGHEST
    stretches = stretches_below(highest)
    loaded = load_pipeline(setups[0].config.model)
    recordings = tuple(
        record_parts(
            pictures,
            setups,
            Path(request.out),
            strength=request.strength,
            stretches=stretches,
            loaded=loaded,
            counting=counting,
        )
        for pictures in sets
    )
    return Recorded(
        request=request,
        parts=parts,
        setups=tuple(setups),
        recordings=recordings,
        highest=highest,
    )


def search_recorded(recorded: Recorded, counting: Progress, *, command: str = "") -> Written:
    """Searches the grid with words, and with tokens where there are any, and writes the files.

    Args:
        recorded: the pictures.
        counting: is told of the recipes.
        command: what was typed, for the files.

    Raises:
        ConfigError: the folder cannot be written.
        MethodError: nothing could be scored.
    """
    request, parts = recorded.request, recorded.parts
    tuning, reporting = recorded.recordings[0], recorded.recordings[-1]
    chosen_on = [picture for picture in parts.tune.pictures if picture.key in parts.tune_keys]
    called = tuning.called(chosen_on)
    grid = recipes(tuning.layer_sizes(chosen_on), called, quick=request.quick)
    counting.start(len(recorded.setups) * scorings(grid))
    found = tuple(
        search(
            parts,
            setup,
            grid,
            tuning,
            reporting,
            draws=request.draws,
            seed=request.seed,
            counting=counting,
        )
        for setup in recorded.setups
    )
    searched = Searched(
        parts=parts,
        grid=grid,
        found=found,
        strength=request.strength,
        highest=max([recorded.highest, *(high for _, high in called)]),
        draws=request.draws,
        seed=request.seed,
        command=command,
        remarks=(_QUICK_REMARK,) if request.quick else (),
    )
    return _write(searched, Path(request.out))


def _setups(request: CompareRequest, parts: Parts, build: Build) -> list[Setup]:
    """``ovam`` by the preset of everyday runs, with words and, where there are any, with tokens.

    Raises:
        ConfigError: another method is asked for.
    """
    pictures = parts.report
    asked = asked_drawing(request, pictures)
    setups = []
    for name, tokens in (("words", "words"), ("tokens", request.tokens or "auto")):
        sections = merge(asked, {"attribution": {"tokens": tokens}})
        config: RunConfig = configure(pictures, sections, build)
        if config.attribution.method != "ovam":
            raise ConfigError(
                "evaluate recipe searches ways to read ovam's maps, got attribution.method "
                f"{config.attribution.method}"
            )
        setup = make_setup(config, text=request.text)
        if setup.words == (name == "words"):
            setups.append(replace(setup, name=name))
    return setups


def _write(searched: Searched, out: Path) -> Written:
    names = []
    for found in searched.found:
        names.append(f"{NAME}-{found.setup.name}.yaml")
        write_text(out / names[-1], preset_text(searched, found))
    write_text(out / f"{NAME}.md", to_markdown(searched))
    data = to_json(searched)
    # last, as the mark that everything is there
    write_json(out / f"{NAME}.json", data)
    return Written(searched=searched, out=out, presets=tuple(names), data=data)
