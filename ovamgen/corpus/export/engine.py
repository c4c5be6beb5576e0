"""A corpus as a folder in the layout of another tool: what all such exports have in common.

Samples stream through one at a time, a shard that is done is not begun again, and the folder counts
once ``export.json`` is there. A layout is one `ExportFormat`.
"""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from jaxtyping import Bool, UInt8

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import palette_of
from ovamgen.corpus.export.parts import SAMPLES, Part, Parts
from ovamgen.corpus.export.splits import Splits
from ovamgen.corpus.open import Corpus, open_corpus
from ovamgen.corpus.output import filling, write_mark
from ovamgen.errors import ConfigError, ShardError
from ovamgen.records import ShardRecord
from ovamgen.shards.arrays import decode_jpeg, decode_png
from ovamgen.shards.codec import IMAGE, MASK
from ovamgen.shards.output_files import EXPORT_NAME
from ovamgen.storage.store import LocalStore, open_store
from ovamgen.storage.whole_files import write_whole


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportSample:
    """One sample as a format gets it: image and mask agree in size, every label is a class's."""

    key: str
    split: str
    jpeg: bytes
    """The image's file."""
    labels: UInt8[np.ndarray, "H W"]
    """Class ids, 0 background, 255 ignore."""
    members: dict[str, bytes]
    """Everything that the shard holds of the sample, by extension."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Export:
    """The folder that is filled, and what is known of all samples."""

    store: LocalStore
    corpus: Corpus
    classes: ClassSet

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.store.url)

    @cached_property
    def palette(self) -> UInt8[np.ndarray, "256 3"]:
        """RGB of each label."""
        return palette_of(self.classes)

    def put(self, name: str, content: bytes) -> None:
        """Writes a file of a sample; it counts with its shard, which is written again otherwise."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def write(self, name: str, content: bytes | Callable[[BinaryIO], object]) -> None:
        """Writes a file of the whole corpus, from its bytes or by what writes them."""
        write_whole(self.root / name, content, make_folder=True)


class ExportFormat(abc.ABC):
    """A layout of files. It sees each sample once, in order, and the joined lines at the end."""

    name: ClassVar[str]
    """As commands and ``export.json`` have it."""
    splits: Splits | None = None
    """How samples are divided; None keeps the splits of the shards."""

    def request(self) -> dict[str, Any]:
        """Its settings as plain values: with others the files would be others."""
        return {}

    @abc.abstractmethod
    def write_sample(self, sample: ExportSample, export: Export, part: Part) -> None:
        """Writes the files of a sample, and adds lines for what is written at the end."""

    @abc.abstractmethod
    def finish(self, export: Export, parts: Parts, counts: dict[str, int]) -> None:
        """Writes the files of the whole corpus; ``counts`` are samples by split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What was written."""

    name: str
    """Of the format."""
    out: str
    samples: dict[str, int]
    """By split, ascending by name."""

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
    *,
    partial: bool = False,
    source: str | None = None,
    after_sample: Callable[[], None] = lambda: None,
) -> ExportResult:
    """The corpus as a folder in a format's layout.

    ``export.json`` is written last; until then ``INCOMPLETE.json`` is there, and the same command
    goes on with the shards that are left. Killed processes leave nothing that is taken for
    finished; files are not forced to the disk one by one, so after a power cut export anew.

    Args:
        url: the folder of a run or of a view.
        out: an empty local folder, or one that the same export began.
        form: the layout and its settings.
        partial: a run that is not finished will do.
        source: of a view, the corpus that it is of; by default the one beside it.
        after_sample: called after each sample.

    Raises:
        ConfigError: nothing to export, a corpus without masks, an output that holds something else.
        ShardError: a shard is damaged, or a mask holds labels that the classes do not have.
    """
    corpus = open_corpus(url, partial=partial, source=source)
    store = open_store(out)
    if not isinstance(store, LocalStore):
        raise ConfigError(f"export {form.name} writes to a local folder, got {out}")
    check_masks(corpus)
    export = Export(store=store, corpus=corpus, classes=corpus.classes)
    request = {
        "command": f"export {form.name}",
        "source_fingerprint": corpus.fingerprint,
        "samples": corpus.samples,
        **form.request(),
    }
    with filling(store, EXPORT_NAME, request) as done:
        if done is not None:
            samples = {name: count for name, count in done.items() if name != "request"}
            return ExportResult(name=form.name, out=store.url, samples=samples)
        parts = Parts(export.root)
        for record in corpus.records:
            if not parts.has(record.shard_index):
                with parts.writing(record.shard_index) as part:
                    for sample in _samples(export, record, form):
                        form.write_sample(sample, export, part)
                        part.add(SAMPLES, f"{sample.split} {sample.key}")
                        after_sample()
        counts = _count(form.splits, parts)
        if sum(counts.values()) != corpus.samples:
            raise ShardError(
                f"{store.url} must hold {corpus.samples} samples, got {sum(counts.values())}: "
                "empty the folder and export again"
            )
        form.finish(export, parts, counts)
        write_mark(store, EXPORT_NAME, request, counts)
        parts.remove()
    return ExportResult(name=form.name, out=store.url, samples=counts)


def check_masks(corpus: Corpus) -> None:
    """Checks that the first sample has an image and a mask; all of a corpus have the same members.

    Raises:
        ConfigError: it has none.
    """
    _, members = next(corpus.read(corpus.records[0]))
    if missing := [name for name in (IMAGE, MASK) if name not in members]:
        raise ConfigError(
            f"expected a corpus of images and masks, but the samples of {corpus.store.url} have no "
            f"{' and no '.join(missing)}: give the folder that 'ovamgen generate' wrote to"
        )


def _count(splits: Splits | None, parts: Parts) -> dict[str, int]:
    """Samples by split, ascending by name; 0 for those that were asked for and have none."""
    counts = Counter(dict.fromkeys(splits.names if splits else (), 0))
    counts.update(split for split, _ in parts.samples())
    return dict(sorted(counts.items()))


def _samples(export: Export, record: ShardRecord, form: ExportFormat) -> Iterator[ExportSample]:
    allowed = _allowed(export.classes)
    for key, members in export.corpus.read(record):
        for name in (IMAGE, MASK):
            if name not in members:
                raise ShardError(f"sample {key} in {record.name} has no member {name}")
        labels = decode_png(members[MASK], name=f"the mask of sample {key}")
        unknown = np.unique(labels[~allowed[labels]])
        if len(unknown):
            raise ShardError(
                f"the mask of sample {key} in {record.name} must hold labels "
                f"{export.classes.told_labels} and {IGNORE}, got {unknown.tolist()}"
            )
        decode_jpeg(members[IMAGE], labels.shape, f"the image of sample {key}")
        yield ExportSample(
            key=key,
            split=form.splits.of(key) if form.splits else record.split,
            jpeg=members[IMAGE],
            labels=labels,
            members=members,
        )


def _allowed(classes: ClassSet) -> Bool[np.ndarray, " labels"]:
    return np.isin(np.arange(256), [BACKGROUND, *(e.id for e in classes.classes), IGNORE])
