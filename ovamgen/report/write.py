"""A corpus read, counted and sampled, and its page written: beside the shards or to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ovamgen.console.progress import Track, untracked
from ovamgen.console.wording import counted, readable_bytes
from ovamgen.errors import ConfigError
from ovamgen.report.corpus import read_corpus
from ovamgen.report.page import render_page
from ovamgen.report.sampling import Sampler
from ovamgen.report.statistics import gather
from ovamgen.report.thumbnails import make_thumbnails
from ovamgen.shards.output_files import REPORT_NAME
from ovamgen.storage.store import Store, open_store
from ovamgen.storage.urls import scheme_of
from ovamgen.storage.whole_files import write_whole

MAX_SAMPLES = 240
"""Shown by default: at most 12 of each class."""

MAX_CARD_BYTES = 14_000_000
"""Bytes of all samples with their pictures; a page may have 15 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A page that was written."""

    out: str
    """Path or URL."""
    size_bytes: int
    state: str
    """``planned``, ``partial``, ``complete`` or ``shards only``."""
    samples: int
    failed: int
    samples_shown: int

    def lines(self) -> list[str]:
        """As text for people."""
        made = counted(self.samples, "sample")
        return [
            f"report         {self.out} ({readable_bytes(self.size_bytes)})",
            f"run            {self.state}; {made} made, {self.failed} failed",
            f"shown          {counted(self.samples_shown, 'sample')}",
        ]


def write_report(
    url: str, out: str | None = None, *, max_samples: int = MAX_SAMPLES, track: Track = untracked
) -> Report:
    """The page about a corpus, written; equal corpora of one name give equal bytes.

    Args:
        url: folder or URL of the corpus.
        out: a file or its URL; by default ``report.html`` in the corpus.
        max_samples: shown with pictures, at most; fewer where the page would be too large.
        track: shows how far it is.

    Raises:
        ConfigError: no corpus is there, or the file cannot be written.
        PlanError: the plan is damaged.
        ShardError: a shard is damaged.
    """
    place = None if out is None else _place(out)
    store = open_store(url)
    corpus = read_corpus(store)
    sampler = Sampler(max_samples)
    records = track(corpus.records, len(corpus.records), "shards of metadata")
    statistics = gather(store, records, corpus.classes, each_row=sampler.add)
    thumbnails = make_thumbnails(
        store,
        corpus.records,
        sampler.choose(),
        corpus.classes,
        max_bytes=MAX_CARD_BYTES,
        track=track,
    )
    data = render_page(corpus, statistics, thumbnails).encode()
    if place is None:
        # of a report that was killed: nobody else looks there
        store.sweep()
        store.put(REPORT_NAME, data)
    elif isinstance(place, Path):
        write_whole(place, data)
    else:
        folder, name = place
        folder.put(name, data)
    return Report(
        out=out if out is not None else f"{store.url}/{REPORT_NAME}",
        size_bytes=len(data),
        state=corpus.state,
        samples=statistics.samples,
        failed=statistics.failed,
        samples_shown=len(thumbnails),
    )


def _place(out: str) -> Path | tuple[Store, str]:
    """Where the page goes, looked at before the work and not after it."""
    if scheme_of(out):
        parent, _, name = out.rpartition("/")
        if not name:
            raise ConfigError(f"expected a file such as {out}{REPORT_NAME} for --out, got a folder")
        return open_store(parent), name
    path = Path(out)
    if path.is_dir():
        raise ConfigError(f"expected a file such as {path / REPORT_NAME} for --out, got a folder")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(
            f"{path} cannot be written: there is no folder {folder}; make it, or give another --out"
        )
    return path
