"""A selection of a corpus: decided on its metadata, written as a view or as new shards."""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64

from ovamgen.corpus.copying import copy_shards
from ovamgen.corpus.open import Corpus, derived_fingerprint, open_corpus
from ovamgen.corpus.output import filling, write_mark
from ovamgen.corpus.select.filters import SelectionSettings, Verdicts, judge
from ovamgen.corpus.select.funnel import Funnel, make_funnel
from ovamgen.corpus.select.table import Candidates, read_candidates
from ovamgen.corpus.view import Keys, View, is_beside, write_view
from ovamgen.errors import ConfigError, ShardError
from ovamgen.records import ShardRecord
from ovamgen.shards.manifest import write_indexes
from ovamgen.shards.output_files import (
    SELECTION_NAME,
    clip_scores_name,
    consistency_scores_name,
)
from ovamgen.shards.tables import read_columns
from ovamgen.storage.store import Store, open_store

COPY_KIND = "ovamgen-selection-v1"
"""``kind`` of a ``selection.json`` beside new shards, which is no view."""

_SCORES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("scores", pa.list_(pa.float64()), nullable=False),
    ]
)


ScoreShard = Callable[[Corpus, ShardRecord], list[tuple[str, list[float]]]]
"""Key and scores, one for each target in the order of the metadata, of a shard's samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was selected, and where it is."""

    out: str
    copied: bool
    samples: int
    funnel: Funnel

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        data = {"out": self.out, "copied": self.copied, "samples": self.samples}
        return data | {"funnel": self.funnel.to_json()}


def select(
    url: str,
    out: str,
    settings: SelectionSettings,
    *,
    clip: str | None = None,
    model: str | None = None,
    strength: float = 0.5,
    device: str = "cpu",
    copy: bool = False,
    partial: bool = False,
    source: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Selection:
    """The selection of a corpus or of a view, written to a folder of its own.

    A view holds keys and reasons (`ovamgen.corpus.view`); ``copy`` writes new shards with the
    bytes of the samples that were kept. Shards keep their numbers and samples their keys.

    Args:
        url: the folder of a run or of a view.
        out: an empty folder, or one that the same selection began.
        settings: what to keep.
        clip: folder of a CLIP model; None: no CLIP scores.
        model: draws mirrored pictures where consistency is asked for; None: the run's own.
        strength: share of the steps that a mirrored picture is noised for, in (0, 1].
        device: of both models.
        copy: new shards instead of a view.
        partial: a run that is not finished will do.
        source: of a view, the corpus that it is of; by default the one beside it.
        say: told what goes on.

    Raises:
        ConfigError: nothing to select from, classes that the corpus does not have, an output that
            holds something else, no such model.
        MethodError: consistency is asked for, and the method cannot be recorded on the model.
        ShardError: a shard or its metadata is damaged.
    """
    corpus = open_corpus(url, partial=partial, source=source)
    settings = settings.resolved(corpus.classes)
    store = open_store(out)
    scorer = consistency = None
    if clip is not None:
        from ovamgen.corpus.select.clip import ClipScorer

        scorer = ClipScorer.load(clip, corpus.classes, device)
    if settings.min_consistency is not None:
        from ovamgen.corpus.select.consistency import ConsistencyScorer, config_of

        consistency = ConsistencyScorer.load(
            config_of(corpus, model=model, device=device), strength
        )
    request = {
        "command": "select",
        "source_fingerprint": corpus.fingerprint,
        "settings": settings.to_json(),
        "clip_sha256": scorer.digest if scorer else "",
        "copy": copy,
        "shards": len(corpus.all_records),
    }
    if consistency is not None:
        request["consistency"] = consistency.request
    with filling(store, SELECTION_NAME, request) as done:
        candidates = read_candidates(corpus, read_pictures=settings.read_pictures)
        measured = {
            kind: _scores(store, corpus, candidates, found.score_shard, kind, name, say)
            for kind, found, name in (
                ("clip_scores", scorer, clip_scores_name),
                ("consistency", consistency, consistency_scores_name),
            )
            if found is not None
        }
        verdicts = judge(candidates, settings, **measured)
        funnel = make_funnel(candidates, verdicts, settings, clip=scorer is not None)
        keys = Keys(key for key, kept in zip(candidates.keys, verdicts.kept, strict=True) if kept)
        if done is None:
            info = _info(corpus, request, settings, verdicts, funnel)
            if copy:
                _copy(store, corpus, keys, info, request)
            else:
                table = _table(candidates, verdicts, measured)
                write_view(store, corpus.store, keys, table, info | {"request": request})
                if not is_beside(store, corpus.store):
                    say(
                        f"the view is not beside its corpus: whoever reads it names the corpus, "
                        f"with --source {shlex.quote(corpus.store.url)}"
                    )
    return Selection(out=store.url, copied=copy, samples=len(keys), funnel=funnel)


def _info(
    corpus: Corpus,
    request: dict[str, Any],
    settings: SelectionSettings,
    verdicts: Verdicts,
    funnel: Funnel,
) -> dict[str, Any]:
    parents = (
        [] if corpus.view is None else [*corpus.view.info["parents"], corpus.view.info["request"]]
    )
    return {
        "fingerprint": corpus.run_fingerprint,
        "parents": parents,
        "settings": settings.to_json(),
        "clip_sha256": request["clip_sha256"],
        "quantiles": [asdict(quantiles) for quantiles in verdicts.quantiles],
        "funnel": funnel.to_json(),
        "shards": {str(record.shard_index): record.sha256 for record in corpus.all_records},
    }


def _copy(
    store: Store, corpus: Corpus, keys: Keys, info: dict[str, Any], request: dict[str, Any]
) -> None:
    if not len(keys):
        raise ConfigError("the selection keeps no sample: there are no shards to write")
    view = View(source=corpus.store.url, keys=keys, shards={}, info={})
    # every shard, so that the tars of the copy are numbered without gaps
    chosen = replace(corpus, records=corpus.all_records, view=view)
    mark = derived_fingerprint("select", info["fingerprint"], {"keys": keys.digest()})
    records = copy_shards(chosen, store, mark)
    derived = {"command": "select", "from_fingerprint": info["fingerprint"], **info["settings"]}
    write_indexes(store, records, {**corpus.run_info, "fingerprint": mark, "derived": derived})
    data = info | {"kind": COPY_KIND, "samples": len(keys), "keys_sha256": keys.digest()}
    write_mark(store, SELECTION_NAME, request, data)


def _table(
    candidates: Candidates, verdicts: Verdicts, measured: dict[str, Float64[np.ndarray, " M"]]
) -> pa.Table:
    """``selection.parquet``: all candidates, so that other cuts can be tried without the corpus."""
    c = candidates
    starts = pa.array(np.searchsorted(c.sample, np.arange(len(c.keys) + 1)), pa.int32())

    def lists(values: np.ndarray) -> pa.ListArray:
        return pa.ListArray.from_arrays(starts, pa.array(values))

    columns = {
        "key": pa.array(c.keys, pa.string()),
        "shard_index": pa.array(c.shards),
        "kept": pa.array(verdicts.kept),
        "reason": pa.array(verdicts.reasons, pa.string()),
        "class_ids": lists(c.class_ids),
        "scores": lists(c.scores),
        "areas": lists(c.areas),
        "unsafe": pa.array(c.unsafe),
        "uniform": pa.array(c.uniform),
    }
    return pa.table(columns | {name: lists(values) for name, values in measured.items()})


def _scores(
    store: Store,
    corpus: Corpus,
    candidates: Candidates,
    score_shard: ScoreShard,
    kind: str,
    name_of: Callable[[int], str],
    say: Callable[[str], None],
) -> Float64[np.ndarray, " M"]:
    """A score for each target; kept in the output shard by shard, to go on from."""
    counts = np.bincount(candidates.sample, minlength=len(candidates.keys)).tolist()
    targets = dict(zip(candidates.keys, counts, strict=True))
    scores: dict[str, list[float]] = {}
    for number, record in enumerate(corpus.records, 1):
        name = name_of(record.shard_index)
        if not store.exists(name):
            keys, values = zip(*score_shard(corpus, record), strict=True)
            buffer = io.BytesIO()
            pq.write_table(pa.table([list(keys), list(values)], schema=_SCORES), buffer)
            store.put(name, buffer.getvalue())
            done = f"{number} of {len(corpus.records)} shards scored"
            say(f"{kind.replace('_', ' ')}: {done}")
        found = _read_scores(store, name, corpus.count(record))
        if any(targets.get(key) != len(values) for key, values in found.items()):
            raise ShardError(f"{store.url}/{name} is of other samples: remove it")
        scores |= found
    flat = [score for key in candidates.keys for score in scores[key]]
    return np.array(flat, dtype=np.float64)


def _read_scores(store: Store, name: str, samples: int) -> dict[str, list[float]]:
    try:
        with store.open(name) as file:
            rows = read_columns(file, name, _SCORES, samples).to_pylist()
    except ShardError as error:
        raise ShardError(f"{store.url}/{name} is damaged ({error}): remove it") from None
    found = {row["key"]: row["scores"] for row in rows}
    if len(found) != samples:
        raise ShardError(
            f"{store.url}/{name} must hold {samples} scores, got {len(found)}: remove it"
        )
    return found
