"""``ovamgen evaluate compare``, from what is asked for to the files of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ovamgen.attribution.heads.reading import read_head
from ovamgen.classes.class_set import ClassSet
from ovamgen.config import SHIPPED_HEADS, RunConfig, TokenSource, read_preset
from ovamgen.console.progress import Progress
from ovamgen.errors import ConfigError
from ovamgen.evaluate.comparison import (
    Comparison,
    Parts,
    compare,
    split_by_hash,
    split_by_name,
    undivided,
)
from ovamgen.evaluate.comparison_figures import write_figures
from ovamgen.evaluate.comparison_report import comparison_data, comparison_markdown, summary_lines
from ovamgen.evaluate.masks import data_set_name
from ovamgen.evaluate.setups import Sections, Setup, configure, make_setup
from ovamgen.evaluate.tables import per_image_csv, write_json, write_text
from ovamgen.pictures.picture_set import PictureSet, open_pictures

PRESETS = ("ovam-voc-sim", "daam-ovam", "daam", "attn2mask-supplementary")
"""The rows of a comparison, each with words and with tokens."""
HEAD_PRESETS = ("grounded", "datasetdm")
"""Further rows, where there is a head for them."""
TUNE_FRACTION = 0.5
QUICK_PICTURES, QUICK_DRAWS, QUICK_STEPS = 40, 200, 30
_QUICK_REMARK = (
    f"This is a quick look (--quick): at most {QUICK_PICTURES} pictures a split, {QUICK_STEPS} "
    f"steps for every method, {QUICK_DRAWS} bootstrap draws."
)

Build = Callable[[Sections], RunConfig]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """What the command was asked for; None where nothing was said."""

    dataset: str
    out: str
    asked: Sections
    """Keys of the sections model and synthesis."""
    strength: float
    text: str
    seed: int
    draws: int
    tokens: str | None = None
    heads: tuple[str, ...] = ()
    """Files of heads, at most one of each method."""
    presets: str | None = None
    """Joined by commas."""
    split: str | None = None
    tune_split: str | None = None
    tune_fraction: float | None = None
    tune_apart: bool = True
    """Thresholds are tuned on other pictures than are reported on; else on all, for those who go by
    the thresholds of the presets."""
    annotations: str | None = None
    caption: str | None = None
    """Caption of every real picture, in place of its own."""
    limit: int | None = None
    quick: bool = False
    figures: bool = True
    """Curves, heatmaps and masks are drawn beside the tables."""
    classes: ClassSet | None = None
    """The classes that are scored; the pictures' own where not given."""

    def open(self, split: str | None, annotations: str | None = None) -> PictureSet:
        """The pictures of a split."""
        return open_pictures(
            self.dataset,
            split=split,
            annotations=annotations,
            limit=self.limit,
            seed=self.seed,
            classes=self.classes,
            caption=self.caption,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Compared:
    """A comparison that was written."""

    found: Comparison
    out: Path
    data: dict[str, Any]
    """As in ``comparison.json``."""

    def lines(self) -> list[str]:
        """As text for people."""
        written = f"written to {self.out}: comparison.md, comparison.json"
        return [*summary_lines(self.found), written]


def compare_data_set(request: CompareRequest, build: Build, counting: Progress) -> Compared:
    """Compares all presets, with words and with tokens, on a data set, and writes the files.

    Args:
        request: what is asked for.
        build: resolves the sections of a configuration.
        counting: is told what goes on.

    Raises:
        ConfigError: something does not fit, or the folder cannot be written.
        MethodError: a method cannot be recorded on this model.
    """
    request, parts = prepared(request)
    setups = preset_setups(request, parts.report, build)
    out = Path(request.out)
    found = compare(
        parts,
        setups,
        out,
        strength=request.strength,
        draws=request.draws,
        seed=request.seed,
        counting=counting,
    )
    remarks = [_QUICK_REMARK] if request.quick else []
    return write_comparison(found, out, remarks, with_figures=request.figures)


def write_comparison(
    found: Comparison, out: Path, remarks: Sequence[str], *, with_figures: bool = True
) -> Compared:
    """Writes ``comparison.json``, ``comparison.md``, the figures and a CSV for each row.

    Args:
        found: the results.
        out: the folder.
        remarks: sentences that a reader must know first.
        with_figures: draw them.

    Raises:
        ConfigError: they cannot be written.
    """
    figures: list[str] = []
    if with_figures:
        figures = write_figures(found, out, data_set_name(found.pictures))
    for line in found.lines:
        write_text(out / "per_image" / f"{line.setup.name}.csv", per_image_csv(line.tuned))
    page = comparison_markdown(found, figures=figures, remarks=remarks)
    write_text(out / "comparison.md", page)
    data = comparison_data(found, remarks)
    # last, as the mark that everything is there
    write_json(out / "comparison.json", data)
    return Compared(found=found, out=out, data=data)


def prepared(request: CompareRequest) -> tuple[CompareRequest, Parts]:
    """The request with the limits of a quick look, and its pictures in two parts.

    Raises:
        ConfigError: two ways to part them, a part without pictures, or a data set that is none.
    """
    if request.tune_split is not None and request.tune_fraction is not None:
        raise ConfigError("--tune-split and --tune-fraction are two ways to tune: give one")
    if request.quick:
        request = replace(
            request,
            limit=min(request.limit or QUICK_PICTURES, QUICK_PICTURES),
            draws=min(request.draws, QUICK_DRAWS),
        )
    pictures = request.open(request.split, request.annotations)
    return request, _parts(request, pictures)


def asked_drawing(request: CompareRequest, pictures: PictureSet) -> Sections:
    """The sections model and synthesis that are asked for, with the steps of a quick look."""
    asked = request.asked
    # the steps of samples are those of the drawing that was annotated
    if request.quick and pictures.kind != "samples" and asked["synthesis"]["steps"] is None:
        return {**asked, "synthesis": {**asked["synthesis"], "steps": QUICK_STEPS}}
    return asked


def _parts(request: CompareRequest, pictures: PictureSet) -> Parts:
    if request.tune_split is not None:
        return split_by_name(pictures, request.open(request.tune_split))
    if not request.tune_apart:
        return undivided(pictures)
    fraction = request.tune_fraction
    return split_by_hash(pictures, TUNE_FRACTION if fraction is None else fraction)


def preset_setups(
    request: CompareRequest, pictures: PictureSet, build: Build, presets: Sequence[str] = PRESETS
) -> list[Setup]:
    """A setup with words and one with tokens for each preset that is asked for.

    Args:
        request: names presets, tokens and heads, or none.
        pictures: what is scored.
        build: resolves the sections of a configuration.
        presets: where none are named; those with a head are added where there is one.

    Raises:
        ConfigError: no such preset, head or bank, or none for the model.
    """
    if request.tokens is not None and TokenSource(request.tokens).words:
        raise ConfigError("--tokens must name a bank or 'untrained': words are compared anyway")
    given, heads = request.presets, _heads(request.heads)
    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    if given is None:
        names = [*presets, *_with_head(heads, configure(pictures, request.asked, build))]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--presets must name presets, each once, got '{given}'")
    asked = asked_drawing(request, pictures)
    setups = []
    for preset in names:
        for tokens, of_a_bank in (("words", False), (request.tokens or "auto", True)):
            method = read_preset(preset).get("attribution", {}).get("method")
            attribution = {"tokens": tokens, "head": heads.get(method)}
            sections: Sections = {"attribution": attribution, "masks": {"preset": preset}}
            config = configure(pictures, {**asked, **sections}, build)
            setup = make_setup(config, text=request.text)
            if of_a_bank and setup.words:
                raise ConfigError(
                    f"a comparison needs tokens, and {config.model.id} has no bank of its own: "
                    "give --tokens BANK (see 'ovamgen tokens')"
                )
            setups.append(replace(setup, name=f"{setup.preset}-{setup.rows.source.label}"))
    return setups


def _heads(files: Sequence[str]) -> dict[str, str]:
    """The files by the method that each is for.

    Raises:
        ConfigError: one is no head, or two are for one method.
    """
    found: dict[str, str] = {}
    for file in files:
        kind = read_head(file).kind
        if kind in found:
            raise ConfigError(f"--head {found[kind]} and {file} are both for {kind}: give one")
        found[kind] = file
    return found


def _with_head(heads: dict[str, str], config: RunConfig) -> list[str]:
    """The presets whose method has a head, given or shipped with the model."""
    return [
        name
        for name in HEAD_PRESETS
        if name in heads or SHIPPED_HEADS[name].model == config.model.id
    ]
