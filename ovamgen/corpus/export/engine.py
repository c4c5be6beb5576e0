"""A corpus as a folder in the layout of another tool: what all such exports have in common.

Samples stream through one at a time, a shard that is done is not begun again, and the folder counts
once ``export.json`` is there. A layout is one `ExportFormat`.
"""

from __future__ import annotations

import abc
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from jaxtyping import UInt8

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import palette_of
from ovamgen.corpus.export.card import export_card
from ovamgen.corpus.export.options import ExportOptions
from ovamgen.corpus.export.parts import SAMPLES, Part, Parts
from ovamgen.corpus.export.samples import ExportSample, export_samples
from ovamgen.corpus.export.splits import Splits
from ovamgen.corpus.open import Corpus, open_corpus
from ovamgen.corpus.output import filling, write_mark
from ovamgen.errors import ConfigError, ShardError
from ovamgen.shards.output_files import CARD_NAME, EXPORT_NAME, EXPORT_PARTS
from ovamgen.storage.store import LocalStore, open_store
from ovamgen.storage.whole_files import flush, make_folders, put_in_place, write_whole

_NOTHING_ASKED = ExportOptions()


@dataclass(frozen=True, kw_only=True, eq=False)
class Export:
    """The folder that is filled, and what is known of all samples."""

    store: LocalStore
    corpus: Corpus
    classes: ClassSet
    """Those that stay."""
    options: ExportOptions
    unflushed: set[Path] = field(default_factory=set)
    """Files of samples that the disk may not have yet."""

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.store.url)

    @cached_property
    def palette(self) -> UInt8[np.ndarray, "256 3"]:
        """RGB of each label."""
        return palette_of(self.classes)

    def place(self, name: str) -> Path:
        """The path of a file of samples, whose content is on the disk before its shard counts."""
        path = self.root / name
        make_folders(path.parent)
        self.unflushed.add(path)
        return path

    def put(self, name: str, content: bytes) -> None:
        """Writes a file of a sample; it counts with its shard, which is written again otherwise."""
        self.place(name).write_bytes(content)

    def flush(self) -> None:
        """Waits until the disk has all files of samples, and their names."""
        for path in sorted(self.unflushed):
            flush(path)
        for folder in sorted({path.parent for path in self.unflushed}):
            flush(folder)
        self.unflushed.clear()

    def write(self, name: str, content: bytes | Callable[[BinaryIO], object]) -> None:
        """Writes a file of the whole corpus, from its bytes or by what writes them."""
        path, whole = self.root / name, self.root / EXPORT_PARTS / ".whole"
        # what a killed process left of it is gone with the parts
        write_whole(whole, content, name=str(path))
        make_folders(path.parent)
        put_in_place(whole, path)


class ExportFormat(abc.ABC):
    """A layout of files. It sees each sample once, in order, and the joined lines at the end."""

    name: ClassVar[str]
    """As commands and ``export.json`` have it."""
    title: ClassVar[str]
    """What its layout is called, for the card."""
    splits: Splits | None = None
    """How samples are divided where nothing was asked; None keeps the splits of the shards."""

    def request(self) -> dict[str, Any]:
        """Its settings as plain values: with others the files would be others."""
        return {}

    def check(self, export: Export) -> None:  # noqa: B027  # most formats hold everything
        """Checks that the format holds what is exported, before anything is written.

        Raises:
            ConfigError: it does not.
        """

    @abc.abstractmethod
    def write_sample(self, sample: ExportSample, export: Export, part: Part) -> None:
        """Writes the files of a sample, and adds lines for what is written at the end."""

    @abc.abstractmethod
    def finish(self, export: Export, parts: Parts, counts: dict[str, int]) -> None:
        """Writes the files of the whole corpus; ``counts`` are samples by split."""

    def describe(self, export: Export, parts: Parts) -> dict[str, Any]:
        """What its part of the card, ``data/export_NAME.md.j2``, speaks of beside its settings."""
        return self.request()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What was written."""

    name: str
    """Name of the format."""
    out: str
    samples: dict[str, int]
    """Samples by split, ascending by name."""

    def lines(self) -> list[str]:
        """As text for people."""
        told = ", ".join(f"{count} {split}" for split, count in self.samples.items())
        return [f"{self.name:15}{self.out}", f"samples        {told}"]

    def to_json(self) -> dict[str, Any]:
        """The folder and the samples of each split, for programs."""
        return {"out": self.out, **self.samples}


def export_folder(
    url: str,
    out: str,
    form: ExportFormat,
    options: ExportOptions = _NOTHING_ASKED,
    *,
    partial: bool = False,
    source: str | None = None,
    opened: Callable[[Corpus], None] = lambda corpus: None,
    after_sample: Callable[[], None] = lambda: None,
) -> ExportResult:
    """The corpus as a folder in a format's layout.

    ``export.json`` is written last; until then ``INCOMPLETE.json`` is there, and the same command
    goes on with the shards that are left. Neither a killed process nor a power cut leaves anything
    that is taken for finished.

    Args:
        url: the folder of a run or of a view.
        out: an empty local folder, or one that the same export began.
        form: the layout and its settings.
        options: how samples are divided and altered.
        partial: a run that is not finished will do.
        source: of a view, the corpus that it is of; by default the one beside it.
        opened: called with the corpus, before anything is written.
        after_sample: called after each sample.

    Raises:
        ConfigError: nothing to export, an output that holds something else.
        ShardError: a shard is damaged or has no masks, or a mask has labels that are no classes.
    """
    corpus = open_corpus(url, partial=partial, source=source)
    opened(corpus)
    store = open_store(out)
    if not isinstance(store, LocalStore):
        raise ConfigError(f"export {form.name} writes to a local folder, got {out}")
    # one whose samples are not whole is refused before anything is written
    next(corpus.read(corpus.records[0]))
    splits = options.splits or form.splits
    classes = corpus.classes
    kept = options.classes_of(classes)
    export = Export(store=store, corpus=corpus, classes=kept, options=options)
    form.check(export)
    request = {
        "command": f"export {form.name}",
        "source_fingerprint": corpus.fingerprint,
        "samples": corpus.samples,
        **form.request(),
        **options.request(classes),
    }
    with filling(store, EXPORT_NAME, request) as done:
        parts = Parts(export.root)
        if done is None and store.exists(EXPORT_NAME):
            # all but the tidying up was done
            done = json.loads(store.read(EXPORT_NAME))
        if done is not None:
            parts.remove()
            samples = {name: count for name, count in done.items() if name != "request"}
            return ExportResult(name=form.name, out=store.url, samples=samples)
        for record in corpus.records:
            if not parts.has(record.shard_index):
                with parts.writing(record.shard_index, export.flush) as part:
                    for sample in export_samples(
                        corpus, record, options, splits=splits, classes=classes, kept=kept
                    ):
                        form.write_sample(sample, export, part)
                        part.add(SAMPLES, f"{sample.split} {sample.key}")
                        after_sample()
        counts = _count(splits, parts)
        if sum(counts.values()) != corpus.samples:
            raise ShardError(
                f"{store.url} must hold {corpus.samples} samples, got {sum(counts.values())}: "
                "empty the folder and export again"
            )
        form.finish(export, parts, counts)
        card = export_card(
            corpus,
            classes,
            kept,
            options,
            counts,
            name=form.name,
            title=form.title,
            values=form.describe(export, parts),
        )
        store.put(CARD_NAME, card.encode())
        write_mark(store, EXPORT_NAME, request, counts)
        parts.remove()
    return ExportResult(name=form.name, out=store.url, samples=counts)


def _count(splits: Splits | None, parts: Parts) -> dict[str, int]:
    """Samples by split, ascending by name; 0 for those that were asked for and have none."""
    counts = Counter(dict.fromkeys(splits.names if splits else (), 0))
    counts.update(split for split, _ in parts.samples())
    return dict(sorted(counts.items()))
