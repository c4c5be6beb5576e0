"""The page about a corpus: one HTML file that needs nothing else, the same bytes every time.

Everything from captions, metadata and run files is untrusted: the template escapes it, and the
page's policy lets no other script or style run than its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ovamgen.classes.class_entry import BACKGROUND
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import is_default
from ovamgen.console.wording import readable_bytes
from ovamgen.report.charts import histogram, swatch
from ovamgen.report.corpus import Corpus
from ovamgen.report.panels import IGNORE_COLOUR, SHADE, class_colours
from ovamgen.report.sections import (
    class_rows,
    configuration,
    funnel,
    loading,
    made_with,
    percent,
    plain,
    quartiles,
    together,
)
from ovamgen.report.statistics import ClassTally, Distribution, Statistics
from ovamgen.report.thumbnails import Thumbnail
from ovamgen.report.times import times_of
from ovamgen.shards.card import is_labelled

_BARS = 40
_PROMPT_CHARACTERS = 400
_MESSAGE_CHARACTERS = 600
_SHOWN_FAILURES = 40
_NAMED_SHARDS = 12
_MOST_ROWS = 40
"""Rows of a table of classes; of a larger set those that were planned or are there have one."""


def render_page(corpus: Corpus, statistics: Statistics, thumbnails: Sequence[Thumbnail]) -> str:
    """The page as HTML.

    Args:
        corpus: what it is about.
        statistics: over all its rows.
        thumbnails: of the samples to show, the most wanted first.
    """
    environment = page_environment("ovamgen.report")
    environment.filters |= {"plain": plain, "percent": percent, "count": "{:,}".format}
    # of the package, not of the corpus: safe to stand in the page as they are
    folder = resources.files("ovamgen.report") / "templates"
    style, script = (Markup((folder / name).read_text("utf-8")) for name in ("page.css", "page.js"))
    whole = together(statistics.classes)
    labelled = whole.pixels / statistics.pixels if statistics.pixels else 0.0
    classes, rows = corpus.classes, class_rows(corpus, statistics)
    shown = rows if len(rows) <= _MOST_ROWS else [row for row in rows if row.asked]
    colours = class_colours(classes).tolist()
    example = colours[classes.classes[0].id]
    return environment.get_template("page.html.j2").render(
        corpus=corpus,
        statistics=statistics,
        model=dict(made_with(corpus)).get("diffusion model", ""),
        of_pictures=is_labelled(corpus.run),
        trained=_trained(corpus, thumbnails),
        size=readable_bytes(corpus.size_bytes),
        planned_shards=len(corpus.plan.tasks) if corpus.plan else len(corpus.records),
        missing=_some([f"{index:06d}" for index in corpus.missing]),
        classes_present=sum(tally.images > 0 for tally in statistics.classes.values()),
        funnel=funnel(corpus, statistics),
        of_voc=is_default(classes),
        classes=shown,
        other_classes=[row for row in rows if row not in shown],
        whole=whole,
        labelled=percent(labelled),
        unlabelled=percent(1 - labelled),
        charts=_charts(whole),
        cards=[_card(thumbnail, colours) for thumbnail in sorted(thumbnails, key=_by_class)],
        heatmaps=any(thumbnail.heatmap for thumbnail in thumbnails),
        ignored=any(thumbnail.ignored for thumbnail in thumbnails),
        mask_swatch=swatch(example),
        edge_swatch=swatch(example, SHADE),
        background_swatch=swatch(SHADE),
        ignore_swatch=swatch(IGNORE_COLOUR),
        shown_classes=_shown_classes(thumbnails, classes),
        failures=_failures(statistics),
        more_failures=max(0, len(statistics.failures) - _SHOWN_FAILURES),
        times=times_of(corpus.times, corpus.illegible_times, statistics.samples),
        made_with=made_with(corpus),
        configuration=configuration(corpus),
        loading=loading(corpus),
        style=style,
        script=script,
        style_hash=policy_hash(style),
        script_hash=policy_hash(script),
    )


def _charts(whole: ClassTally) -> list[dict[str, Any]]:
    """The histograms with what they say in words."""
    asked: list[tuple[str, str, str, Distribution]] = [
        ("Scores", "mean score inside the mask", "one", whole.scores),
        ("Mask areas", "mask as a fraction of its image", "two", whole.areas),
    ]
    charts = []
    for title, axis, kind, values in asked:
        found = quartiles(values)
        if found is None:
            continue
        low, median, high = found
        words = (
            f"{values.total:,} masks; half of them lie between {low:.2f} and {high:.2f}, "
            f"the median is {median:.2f}"
        )
        svg = histogram(
            values.bars(_BARS), label=f"{title}: {words}", axis=axis, median=median, kind=kind
        )
        charts.append({"title": title, "words": words, "svg": svg})
    return charts


def _by_class(thumbnail: Thumbnail) -> tuple[int, float, str]:
    candidate = thumbnail.choice.candidate
    return candidate.class_ids[0], -candidate.score, candidate.key


def _card(thumbnail: Thumbnail, colours: Sequence[Sequence[int]]) -> dict[str, Any]:
    metadata: Any = thumbnail.metadata
    candidate = thumbnail.choice.candidate
    targets = [
        {
            "swatch": swatch(colours[class_id]),
            "phrase": plain(phrase),
            "score": f"{score:.2f}" if area and class_id else "–",
            "area": percent(area) if area else "no mask",
        }
        for class_id, phrase, score, area in zip(
            metadata["class_ids"],
            metadata["phrases"],
            metadata["scores"],
            metadata["areas"],
            strict=True,
        )
    ]
    heatmap = thumbnail.heatmap
    return {
        "key": candidate.key,
        "why": thumbnail.choice.why,
        "class_ids": " ".join(map(str, candidate.class_ids)),
        "score": f"{candidate.score:.4f}",
        "area": f"{candidate.area:.4f}",
        "height": thumbnail.height,
        "width": thumbnail.width,
        "image": _data_url(thumbnail.image),
        "heatmap": _data_url(heatmap) if heatmap else "",
        "mask": _data_url(thumbnail.mask),
        "names": ", ".join(plain(phrase) for phrase in metadata["phrases"]),
        "prompt": _cut(plain(metadata["prompt"]), _PROMPT_CHARACTERS),
        "seed": metadata["seed"],
        "targets": targets,
    }


def _shown_classes(thumbnails: Sequence[Thumbnail], classes: ClassSet) -> list[tuple[int, str]]:
    shown = {class_id for t in thumbnails for class_id in t.choice.candidate.class_ids}
    none = [(BACKGROUND, "no class")] if BACKGROUND in shown else []
    return none + [(entry.id, entry.phrase) for entry in classes.classes if entry.id in shown]


def _failures(statistics: Statistics) -> list[dict[str, Any]]:
    """The most frequent kinds of failures first."""
    kinds = sorted(statistics.failures.values(), key=lambda k: (-k.count, k.stage, k.message))
    return [
        {
            "stage": plain(kind.stage),
            "message": _cut(plain(kind.message), _MESSAGE_CHARACTERS),
            "count": kind.count,
            "examples": ", ".join(kind.examples),
        }
        for kind in kinds[:_SHOWN_FAILURES]
    ]


def _trained(corpus: Corpus, thumbnails: Sequence[Thumbnail]) -> bool:
    """Whether the model's weights were trained; assumed where nothing says so."""
    told = corpus.run.get("model", {}).get("trained")
    if told is None and thumbnails:
        told = thumbnails[0].metadata["model_trained"]
    return told is not False


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_SHARDS])
    more = len(names) - _NAMED_SHARDS
    return f"{shown} and {more:,} more" if more > 0 else shown


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _data_url(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def page_environment(package: str) -> Environment:
    """What renders a page of HTML from ``templates`` of a package; every value is escaped."""
    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def policy_hash(text: str) -> str:
    """The name that a content security policy has for an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
