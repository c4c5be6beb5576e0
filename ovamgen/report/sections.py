"""The tables of a page, as plain rows that its template only has to write down.

What the texts say is decided here; how they look is not known.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from markupsafe import Markup

from ovamgen.classes.loading import is_default
from ovamgen.console.wording import counted
from ovamgen.plan.prompts import Reason
from ovamgen.report.charts import bar, quartile_bar, swatch
from ovamgen.report.corpus import Corpus
from ovamgen.report.panels import class_colours
from ovamgen.report.statistics import ClassTally, Distribution, Statistics
from ovamgen.shards.card import drawn_by, loras_of, value_at, without_folder

_REASONS = {
    Reason.EMPTY: "no text",
    Reason.DUPLICATE_ID: "its id occurred before",
    Reason.DUPLICATE: "the same prompt occurred before",
    Reason.NOT_ASKED: "names classes that were not asked for",
    Reason.TOO_MANY_TARGETS: "more classes than plan.max_targets",
    Reason.BEYOND_TOKENS: "the text encoder would cut the class word off",
    Reason.QUOTA_FULL: "enough samples of its classes (plan.per_class)",
    Reason.LIMIT_REACHED: "enough samples altogether (plan.limit)",
    Reason.NO_INSTANCE: "its image shows none of the classes",
    Reason.TOO_SMALL: "the objects in its image are too small",
    Reason.TOO_MANY_INSTANCES: "too many objects in its image",
    Reason.NOT_DRAWN: "another caption was drawn in its place",
}

_STAGES = {
    "synthesis": "the image could not be drawn",
    "safety": "the safety checker took it out",
    "masks": "no mask could be made",
    "encoding": "it could not be written as a sample",
}

_PATHS = ("captions", "instances", "tokens", "head", "id", "path", "pictures")
"""Configuration keys that may hold a path of the machine that made the corpus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelRow:
    """A step from captions to samples."""

    label: str
    note: str
    count: int
    depth: int
    """0 for what goes on, 1 for what is lost there."""
    bar: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """A class with what was asked and what came; numbers are text already."""

    id: int
    name: str
    phrase: str
    swatch: Markup
    planned: str
    images: str
    images_bar: Markup
    pixels: str
    pixels_share: str
    pixels_bar: Markup
    empty: str
    score: str
    score_bar: Markup
    area: str
    area_bar: Markup
    present: bool
    asked: bool
    """It was planned, or is there."""


def funnel(corpus: Corpus, statistics: Statistics) -> list[FunnelRow]:
    """From captions to samples, with what was left out on the way and why."""
    plan = corpus.plan
    made, failed = statistics.samples, statistics.failed
    planned = plan.samples if plan else made + failed
    rejected = Counter(rejection.reason for rejection in plan.rejections) if plan else Counter()
    captions = planned + rejected.total()

    def row(label: str, count: int, depth: int, kind: str, note: str = "") -> FunnelRow:
        return FunnelRow(
            label=label, note=note, count=count, depth=depth, bar=bar(count, captions, kind)
        )

    rows = []
    if plan:
        rows.append(row("captions read", captions, 0, "rest"))
        ordered = sorted(rejected.items(), key=lambda item: (-item[1], item[0].value))
        count = len(corpus.classes)
        unnamed = f"names none of the {count} classes" if count > 1 else "does not name the class"
        notes = _REASONS | {Reason.NO_TARGET: unnamed}
        rows += [row(reason.value, n, 1, "lost", notes[reason]) for reason, n in ordered]
    rows.append(row("samples planned", planned, 0, "rest"))
    if plan and len(plan.generations) > 1:
        first, *later = plan.generations
        extensions = [part.samples for part in later if not part.is_retries]
        retries = [part.samples for part in later if part.is_retries]
        rows.append(row("by the first run", first.samples, 1, "rest"))
        if extensions:
            note = f"in {counted(len(extensions), 'extension')} (generate --extend)"
            rows.append(row("added later", sum(extensions), 1, "rest", note))
        if retries:
            note = f"in {counted(len(retries), 'round')} (repair --failed)"
            rows.append(row("failed ones tried again", sum(retries), 1, "rest", note))
    waiting = planned - made - failed
    if waiting:
        note = f"in {len(corpus.missing):,} of {len(plan.tasks) if plan else 0:,} shards"
        rows.append(row("not made yet", waiting, 1, "wait", note))
    for stage, count in statistics.failed_by_stage.items():
        rows.append(row(f"failed: {stage}", count, 1, "two", _STAGES.get(stage, "")))
    if statistics.other_failures:
        rows.append(row("failed: other messages", statistics.other_failures, 1, "two"))
    rows.append(row("samples made", made, 0, "one"))
    if statistics.without_class:
        note = "all background, so that networks learn what is none of the classes"
        rows.append(row("without any class", statistics.without_class, 1, "one", note))
    if statistics.unsafe:
        note = "by the safety checker; part of the corpus, not shown on this page"
        rows.append(row("flagged", statistics.unsafe, 1, "two", note))
    return rows


def class_rows(corpus: Corpus, statistics: Statistics) -> list[ClassRow]:
    """All classes in the order of their ids."""
    planned: Counter[int] = Counter()
    if corpus.plan:
        for spec in corpus.plan.specs:
            planned.update(target.class_id for target in spec.targets)
    tallies = statistics.classes
    most_images = max(tally.images for tally in tallies.values())
    most_pixels = max(tally.pixels for tally in tallies.values())
    rows = []
    colours = class_colours(corpus.classes)
    for entry in corpus.classes.classes:
        tally = tallies[entry.id]
        share = tally.pixels / statistics.pixels if statistics.pixels else 0.0
        rows.append(
            ClassRow(
                id=entry.id,
                name=entry.name,
                phrase=entry.phrase,
                swatch=swatch(colours[entry.id].tolist()),
                planned=_count(planned[entry.id]) if corpus.plan else "–",
                images=_count(tally.images),
                images_bar=bar(tally.images, most_images),
                pixels=_count(tally.pixels),
                pixels_share=percent(share) if tally.pixels else "",
                pixels_bar=bar(tally.pixels, most_pixels, "two"),
                empty=_count(tally.empty),
                score=_spread(tally.scores),
                score_bar=quartile_bar(quartiles(tally.scores)),
                area=_spread(tally.areas, share=True),
                area_bar=quartile_bar(quartiles(tally.areas)),
                present=tally.images > 0,
                asked=tally.images > 0 or planned[entry.id] > 0,
            )
        )
    return rows


def together(tallies: Mapping[int, ClassTally]) -> ClassTally:
    """All classes as one."""
    total = ClassTally()
    for tally in tallies.values():
        total.images += tally.images
        total.pixels += tally.pixels
        total.empty += tally.empty
        total.scores.counts += tally.scores.counts
        total.areas.counts += tally.areas.counts
    return total


def quartiles(values: Distribution) -> tuple[float, float, float] | None:
    """First quartile, median and third quartile; None of no values."""
    found = [values.quantile(fraction) for fraction in (0.25, 0.5, 0.75)]
    low, median, high = found
    if low is None or median is None or high is None:
        return None
    return low, median, high


def made_with(corpus: Corpus) -> list[tuple[str, str]]:
    """What decides how samples look, as (label, value); what is not known is left out."""
    run = corpus.run
    model, revision = value_at(run, "model", "id"), value_at(run, "model", "revision")
    height, width = (value_at(run, "config", "synthesis", side) for side in ("height", "width"))
    rows = [
        ("diffusion model", without_folder(model)),
        ("its revision", revision),
        ("LoRAs (weight)", loras_of(run)),
        ("captions", without_folder(value_at(run, "config", "plan", "captions"))),
        ("classes", None if is_default(corpus.classes) else corpus.classes.name),
        ("image size", f"{width} × {height} pixels" if height and width else None),
        ("pictures", without_folder(value_at(run, "config", "label", "pictures"))),
        *drawn_by(run),
        ("guidance scale", value_at(run, "config", "synthesis", "guidance")),
        ("attribution method", value_at(run, "config", "attribution", "method")),
        ("class tokens", without_folder(value_at(run, "config", "attribution", "tokens"))),
        ("mask preset", value_at(run, "config", "masks", "preset")),
        ("threshold tau", value_at(run, "config", "masks", "tau")),
        ("seed of the run", value_at(run, "config", "plan", "seed")),
        ("fingerprint", run.get("fingerprint")),
        ("ovamgen", run.get("ovamgen_version")),
    ]
    return [(label, str(value)) for label, value in rows if value not in (None, "")]


def configuration(corpus: Corpus) -> str:
    """The resolved configuration with model, inputs and versions, as YAML without folders."""
    names = ("config", "inputs", "model", "versions")
    parts = {name: _without_folders(corpus.run[name]) for name in names if name in corpus.run}
    return yaml.safe_dump(parts, sort_keys=True, allow_unicode=True, width=100) if parts else ""


def loading(corpus: Corpus) -> list[tuple[str, str]]:
    """Ways to read the samples from beside the corpus's folder, as (library, lines of Python)."""
    full = [record for record in corpus.records if record.samples]
    if not full:
        return []
    stem = full[0].name.rpartition("-")[0]
    every = _literal(f"{corpus.name}/{stem}-*.tar")
    imports, tars = "import webdataset as wds", _literal(f"{corpus.name}/{full[0].name}")
    if len(full) > 1:
        first, last = full[0].shard_index, full[-1].shard_index
        # braces name every shard between their ends: only where all of them are there
        if last - first + 1 == len(full):
            tars = _literal(f"{corpus.name}/{stem}-{{{first:06d}..{last:06d}}}.tar")
        else:
            imports, tars = "import glob, webdataset as wds", f"sorted(glob.glob({every}))"
    return [
        (
            "webdataset",
            f"{imports}\n"
            f"samples = wds.WebDataset({tars}, shardshuffle=False)\n"
            'pairs = samples.decode(wds.imagehandler("rgb8", ["jpg"]), "l8")'
            '.to_tuple("jpg", "mask.png")',
        ),
        (
            "datasets",
            "from datasets import load_dataset\n"
            f'samples = load_dataset("webdataset", data_files={every}, split="train")\n'
            'image, mask = samples[0]["jpg"], samples[0]["mask.png"]',
        ),
        (
            "ovamgen",
            "from ovamgen.corpus.dataset import segmentation_dataset\n"
            f"for image, mask in segmentation_dataset({_literal(corpus.name)}, shuffle=1000):\n"
            "    ...  # float32 (3, H, W) in [0, 1]; int64 (H, W) of class ids",
        ),
    ]


def percent(share: float) -> str:
    """A share as a percentage of two digits or one decimal."""
    value = 100 * share
    if 0 < value < 0.1:
        return "< 0.1 %"
    return f"{value:.1f} %" if value < 9.95 else f"{value:.0f} %"


def plain(text: object) -> str:
    """Untrusted text in one line, without characters that control a screen."""
    line = " ".join(str(text).split())
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in line)


def _without_folders(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_folders(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    return {
        name: without_folder(value)
        if name in _PATHS and isinstance(value, str)
        else _without_folders(value)
        for name, value in node.items()
    }


def _spread(values: Distribution, *, share: bool = False) -> str:
    """``0.84 (0.79–0.91)``: the median with the quartiles around it."""
    found = quartiles(values)
    if found is None:
        return ""
    low, median, high = (f"{100 * v:.0f}" if share else f"{v:.2f}" for v in found)
    return f"{median} % ({low}–{high})" if share else f"{median} ({low}–{high})"


def _count(value: int) -> str:
    return f"{value:,}" if value else "–"


def _literal(text: str) -> str:
    """A string of Python, whatever the folder is called."""
    return json.dumps(text, ensure_ascii=False)
