"""The card of an export: what is in the folder, how it is opened, how it was made, which terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import is_default
from ovamgen.corpus.export.classes import count_targets
from ovamgen.corpus.export.options import ExportOptions
from ovamgen.corpus.open import Corpus
from ovamgen.shards.card import ClassCount, cell, render, size_category

_TEMPLATE = "export_card.md.j2"
_NO_HEADER: dict[str, Any] = {"paths": {}, "tags": [], "dataset_info": ""}
"""What a card has at its beginning for the Hub, which most layouts are not for."""


def export_card(
    corpus: Corpus,
    classes: ClassSet,
    kept: ClassSet,
    options: ExportOptions,
    counts: Mapping[str, int],
    *,
    name: str,
    title: str,
    values: Mapping[str, Any],
) -> str:
    """The card as Markdown.

    Args:
        corpus: what was exported.
        classes: its own.
        kept: those that stayed.
        options: what else was asked.
        counts: samples by split.
        name: of the format.
        title: what the layout is called.
        values: what the format's own template, about files and how they are opened, speaks of.
            ``paths`` of the files by split, ``tags`` and ``dataset_info`` make a header for the
            Hub.
    """
    shown = count_targets(corpus)
    rows = [
        ClassCount(entry.id, cell(entry.name), cell(entry.phrase), shown.get(entry.id, 0))
        for entry in kept.classes
    ]
    return render(
        _TEMPLATE,
        {**corpus.run_info, "fingerprint": corpus.fingerprint},
        format=name,
        title=title,
        samples=sum(counts.values()),
        size_category=size_category(sum(counts.values())),
        set_name="PASCAL VOC" if is_default(classes) else f"`{classes.name}`",
        splits=dict(counts),
        altered=_altered(options, kept),
        split=next(iter(counts), "train"),
        description=f"export_{name}.md.j2",
        classes=rows,
        **{**_NO_HEADER, **values},
    )


def _altered(options: ExportOptions, classes: ClassSet) -> str:
    told = []
    if options.size:
        told.append(f"resized to {options.size}, images by Lanczos' filter, masks by nearest pixel")
    if options.only_classes:
        names = ", ".join(entry.name for entry in classes.classes)
        told.append(f"pixels of other classes than {names} are background")
    return "; ".join(told)
