"""Consistency with the mirrored picture, by the embedded model on a corpus that it made."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.select.consistency import ConsistencyScorer, config_of
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError
from ovamgen.generation import generate
from ovamgen.shards.arrays import decode_jpeg, decode_png
from ovamgen.shards.codec import IMAGE, MASK
from tests.corpus.corpora import write_corpus
from tests.runs import run_config

TEXTS = ["a cat on a sofa", "a bus", "a horse and a cow", "a boat at night", "a dog"]


def asking(least):
    return SelectionSettings(area_quantiles=None, drop_uniform=False, min_consistency=least)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six samples of one or two classes, and of none, in two shards."""
    config = run_config(
        tmp_path_factory.mktemp("consistency"),
        texts=TEXTS,
        synthesis={"steps": 4},
        plan={"shard_size": 3, "empty_share": 0.2},
        runtime={"runner": "local"},
    )
    generate(config)
    return open_corpus(config.out)


@pytest.fixture(scope="module")
def scorer(corpus):
    return ConsistencyScorer.load(config_of(corpus, model=None, device="cpu"), 0.5)


@pytest.fixture(scope="module")
def samples(corpus):
    """Image, mask and metadata of every sample, by key."""
    return {
        key: (decode_jpeg(members[IMAGE]), decode_png(members[MASK]), row)
        for record in corpus.records
        for key, members, row in corpus.read_with_rows(record)
    }


@pytest.fixture(scope="module")
def view(corpus, tmp_path_factory):
    """The folder of a selection that keeps everything, and its table."""
    out = tmp_path_factory.mktemp("views") / "view"
    select(corpus.store.url, str(out), asking(0.0))
    return out, pq.read_table(out / "selection.parquet").to_pylist()


def test_the_score_is_the_iou_with_the_mask_of_the_mirrored_picture(scorer, samples, view):
    """By the mask that the scorer compares with, whose pixels are counted here one class a time."""
    scores = {row["key"]: row["consistency"] for row in view[1]}
    compared = 0
    for key, (image, labels, row) in samples.items():
        targets = [target for target in row["class_ids"] if target]
        again = scorer.by_mirrored(image, row, targets).labels if targets else None
        expected = []
        for target in targets:
            a, b = labels == target, again == target
            expected.append((a & b).sum() / (a | b).sum() if (a | b).any() else 0.0)
        assert scores[key] == pytest.approx(expected, abs=1e-6)
        compared += len(expected)
    assert compared >= 6
    assert max(max(found, default=0) for found in scores.values()) > 0.1


def test_a_mask_that_agrees_has_one_and_its_opposite_nothing(scorer, samples):
    image, labels, row = next(
        sample
        for sample in samples.values()
        if len(sample[2]["class_ids"]) == 1 and sample[2]["class_ids"][0]
    )
    target = row["class_ids"][0]
    again = scorer.by_mirrored(image, row, [target]).labels
    assert (again == target).any()
    assert scorer.scores(image, again, row) == [1.0]
    opposite = np.where(again == target, 0, target).astype(np.uint8)
    assert scorer.scores(image, opposite, row) == [0.0]
    assert scorer.scores(image, np.full_like(labels, 255), row) == [0.0]


def test_the_mirrored_picture_has_the_mirrored_mask(scorer, samples):
    """The mask comes back in the place of the thing: on the side of the drawing, not the other."""
    image, _, row = samples["00000000001"]
    target = row["class_ids"][0]
    # The picture's own background beside it: plain white is a thing to the model.
    shifted = np.broadcast_to(np.median(image[:4], axis=(0, 1)), image.shape).astype(np.uint8)
    shifted[:, : image.shape[1] // 2] = image[:, ::2]
    again = scorer.by_mirrored(shifted, row, [target]).labels == target
    left, right = np.array_split(again, 2, axis=1)
    assert left.sum() > right.sum()


def test_those_below_the_minimum_are_left_out(corpus, view, tmp_path):
    rows = view[1]
    assert all(row["kept"] for row in rows)
    flat = sorted(score for row in rows for score in row["consistency"])
    least = flat[len(flat) // 2]
    done = select(corpus.store.url, str(tmp_path / "view"), asking(least), copy=True)
    kept = [row["key"] for row in rows if min(row["consistency"], default=1.0) >= least]
    assert 0 < len(kept) < len(rows)
    assert done.funnel.dropped == {"min_consistency": len(rows) - len(kept)}
    copied = open_corpus(str(tmp_path / "view"))
    assert [key for record in copied.records for key, _ in copied.read(record)] == kept
    # pictures without a class have nothing that could be compared
    assert [row["key"] for row in rows if not row["consistency"]] == [
        row["key"] for row in rows if not row["class_ids"]
    ]


def test_scores_are_kept_to_go_on_from(corpus, view, tmp_path, monkeypatch):
    score_shard = ConsistencyScorer.score_shard
    scored = []

    def second_fails(self, source, record):
        scored.append(record.shard_index)
        if scored == [0, 1]:
            raise KeyboardInterrupt
        return score_shard(self, source, record)

    monkeypatch.setattr(ConsistencyScorer, "score_shard", second_fails)
    out = tmp_path / "view"
    with pytest.raises(KeyboardInterrupt):
        select(corpus.store.url, str(out), asking(0.0))
    assert not (out / "selection.json").exists()
    select(corpus.store.url, str(out), asking(0.0))
    assert scored == [0, 1, 1]
    for name in ("selection.parquet", "consistency/000000.parquet", "consistency/000001.parquet"):
        assert (out / name).read_bytes() == (view[0] / name).read_bytes()
    with pytest.raises(ConfigError, match="made with other consistency"):
        select(corpus.store.url, str(out), asking(0.0), strength=0.75)


def test_a_selection_says_what_it_was_measured_with(view):
    request = json.loads((view[0] / "selection.json").read_text())["request"]
    assert request["consistency"]["strength"] == 0.5
    assert len(request["consistency"]["weights_sha256"]) == 64
    assert request["settings"]["min_consistency"] == 0.0
    # what was selected before consistency could be asked for goes on with the same request
    assert "min_consistency" not in SelectionSettings().to_json()


def test_what_cannot_be_measured_is_said_before_anything_is_written(corpus, tmp_path):
    out = tmp_path / "view"
    plain = write_corpus(tmp_path / "run", (3,))[0].url
    with pytest.raises(ConfigError, match=r"no run\.yaml that says how"):
        select(plain, str(out), asking(0.5))
    with pytest.raises(ConfigError, match="strength must be above 0 and at most 1, got 2"):
        select(corpus.store.url, str(out), asking(0.5), strength=2.0)
    with pytest.raises(ConfigError, match="nowhere"):
        select(corpus.store.url, str(out), asking(0.5), model=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="--min-consistency must be from 0 to 1, got 50"):
        asking(50.0)
    assert not out.exists()
