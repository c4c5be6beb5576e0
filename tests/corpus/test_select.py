"""`ovamgen select`: the published filters, limits, views and copies."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ovamgen.classes.loading import default_classes
from ovamgen.corpus.dataset import read_samples, segmentation_dataset
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.select.filters import SelectionSettings, judge
from ovamgen.corpus.select.select import select
from ovamgen.corpus.select.table import Candidates
from ovamgen.corpus.view import Keys, read_view
from ovamgen.errors import ConfigError, ShardError
from ovamgen.storage.store import LocalStore
from tests.corpus.corpora import write_corpus
from tests.runs import digests

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning"),
]

NOTHING = SelectionSettings(drop_uniform=False, area_quantiles=None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """70 + 70 + 30 samples, and three that failed."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "run", (70, 70, 30))[0]


@pytest.fixture(scope="module")
def samples(corpus):
    """All samples of the corpus, decoded."""
    return list(read_samples(corpus.url))


def notebook(root, low=0.05, high=0.95):
    """The keys that the published notebook's filter keeps, by pandas and the tar's own pixels.

    Methods 7.4: quantiles of the object's area by class over everything that was made, strict
    inequalities, images of one colour dropped. Written without any code of ovamgen.
    """
    frames = [pd.read_parquet(path) for path in sorted(Path(root, "metadata").glob("*.parquet"))]
    table = pd.concat(frames)
    table = table[table.status == "ok"][["key", "class_ids", "areas"]]
    pairs = table.explode(["class_ids", "areas"]).astype({"areas": float})
    by_class = pairs.groupby("class_ids")["areas"]
    above = pairs.areas > by_class.transform(lambda areas: areas.quantile(low))
    below = pairs.areas < by_class.transform(lambda areas: areas.quantile(high))
    passes = (above & below).groupby(pairs.key).all()
    constant = set()
    for path in sorted(Path(root).glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    pixels = np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())))
                    if len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1:
                        constant.add(member.name.removesuffix(".jpg"))
    return [key for key in sorted(passes.index[passes]) if key not in constant]


def test_the_published_selection_is_reproduced(corpus, tmp_path):
    """Acceptance check 12."""
    settings = SelectionSettings(read_pictures=True)
    done = select(corpus.url, str(tmp_path / "view"), settings)
    expected = notebook(corpus.url)
    assert (tmp_path / "view" / "keys.txt").read_text().split() == expected
    assert done.samples == len(expected)
    assert 100 < len(expected) < 150
    dropped = done.funnel.dropped
    assert all(dropped[name] > 0 for name in ("uniform", "area_low_quantile", "area_high_quantile"))
    assert done.funnel.planned == 173
    assert done.funnel.failed == {"synthesis": 3}
    assert done.funnel.planned - 3 - sum(dropped.values()) == done.funnel.kept == done.samples


def test_quantiles_are_of_the_set_before_any_filter(corpus, tmp_path):
    plain = select(corpus.url, str(tmp_path / "a"), SelectionSettings())
    strict = select(corpus.url, str(tmp_path / "b"), SelectionSettings(min_score=0.9))
    quantiles = [json.loads((tmp_path / x / "selection.json").read_text()) for x in "ab"]
    assert quantiles[0]["quantiles"] == quantiles[1]["quantiles"]
    assert strict.samples < plain.samples


def test_uniform_greys_are_found_without_a_picture(corpus, samples, tmp_path, monkeypatch):
    """By the sha256 of the pixels; images of another colour need the pictures."""
    settings = SelectionSettings(area_quantiles=None)
    by_digest = select(corpus.url, str(tmp_path / "a"), settings)
    by_pixels = select(
        corpus.url, str(tmp_path / "b"), dataclasses.replace(settings, read_pictures=True)
    )
    images = {sample.key: sample.image for sample in samples}
    flat = {key for key, image in images.items() if (image == image[0, 0]).all()}
    grey = {key for key in flat if len(set(images[key][0, 0].tolist())) == 1}
    assert len(grey) > 2
    assert len(flat - grey) > 2
    assert by_digest.funnel.dropped["uniform"] == len(grey)
    assert by_pixels.funnel.dropped["uniform"] == len(flat)
    # of large pictures, and of many sizes, the digests of all greys would take longer than reading
    for name, most in (("c", "PIXELS"), ("d", "SIZES")):
        with monkeypatch.context() as patch:
            patch.setattr(f"ovamgen.corpus.select.table._DIGESTED_{most}", 0)
            patch.setattr("ovamgen.corpus.select.table._greys", None)
            read = select(corpus.url, str(tmp_path / name), settings)
        assert read.funnel.dropped == by_digest.funnel.dropped
    assert any("--read-pictures" in note for note in by_digest.funnel.notes)


@pytest.mark.parametrize(
    ("settings", "reason", "keeps"),
    [
        ({"drop_unsafe": True}, "unsafe", lambda m: not m["unsafe"]),
        ({"min_score": 0.7}, "min_score", lambda m: min(m["scores"]) >= 0.7),
        ({"min_area": 0.2}, "min_area", lambda m: min(m["areas"]) >= 0.2),
        ({"max_area": 0.4}, "max_area", lambda m: max(m["areas"]) <= 0.4),
        ({"classes": ("tv", "cat")}, "class", lambda m: set(m["class_ids"]) <= {8, 20}),
    ],
)
def test_limits(corpus, samples, tmp_path, settings, reason, keeps):
    chosen = dataclasses.replace(NOTHING, **settings)
    done = select(corpus.url, str(tmp_path / "view"), chosen)
    expected = [s.key for s in samples if keeps(s.metadata)]
    assert (tmp_path / "view" / "keys.txt").read_text().split() == expected
    assert 0 < len(expected) < 170
    assert done.funnel.dropped == {reason: 170 - len(expected)}


def test_max_per_class_takes_the_first_by_key(corpus, samples, tmp_path):
    view = str(tmp_path / "view")
    done = select(corpus.url, view, dataclasses.replace(NOTHING, max_per_class=7))
    counts = dict.fromkeys((1, 8, 11, 15, 20), 0)
    expected = []
    for sample in samples:
        class_ids = sample.metadata["class_ids"]
        if all(counts[class_id] < 7 for class_id in class_ids):
            expected.append(sample.key)
            for class_id in class_ids:
                counts[class_id] += 1
    assert [s.key for s in read_samples(view, corpus.url)] == expected
    kept = {name: counts["kept"] for name, counts in done.funnel.by_class.items()}
    assert max(kept.values()) <= 7
    assert sum(kept.values()) == sum(counts.values())


def _candidates(areas, class_ids):
    count = len(areas)
    return Candidates(
        classes=default_classes(),
        keys=tuple(f"{index:011d}" for index in range(count)),
        shards=np.zeros(count, np.int64),
        unsafe=np.zeros(count, bool),
        uniform=np.zeros(count, bool),
        sample=np.arange(count),
        class_ids=np.array(class_ids),
        scores=np.ones(count),
        areas=np.array(areas, dtype=np.float64),
        failed={},
        failed_by_class={},
    )


def test_quantiles_by_hand_and_strictly():
    # 0.1 .. 1.0: the quartiles are 0.325 and 0.775; a class of its own has quantiles of its own
    areas = [*np.arange(1, 11) / 10, 0.5]
    settings = SelectionSettings(area_quantiles=(0.25, 0.75))
    verdicts = judge(_candidates(areas, [1] * 10 + [2]), settings)
    assert verdicts.kept.tolist() == [False] * 3 + [True] * 4 + [False] * 4
    assert verdicts.reasons[2] == "area_low_quantile"
    assert verdicts.reasons[7] == "area_high_quantile"
    assert verdicts.reasons[10] == "area_low_quantile"
    assert verdicts.quantiles[0].area_low == pytest.approx(0.325)
    # an area that is the quantile itself is out
    verdicts = judge(
        _candidates([0.1, 0.2, 0.3], [1] * 3),
        settings=dataclasses.replace(settings, area_quantiles=(0.0, 1.0)),
    )
    assert verdicts.kept.tolist() == [False, True, False]


def test_clip_scores_must_be_above_their_quantile():
    settings = SelectionSettings(area_quantiles=None, clip_quantile=0.25)
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    verdicts = judge(_candidates([0.5] * 5, [3] * 5), settings, scores)
    assert verdicts.reasons == ("clip_quantile", "clip_quantile", "", "", "")
    assert verdicts.quantiles[0].clip == pytest.approx(0.2)


def test_small_classes_and_missing_clip_are_said(tmp_path):
    store, _ = write_corpus(tmp_path / "run", (6,))
    done = select(store.url, str(tmp_path / "view"), SelectionSettings())
    notes = " ".join(done.funnel.notes)
    assert "CLIP: not scored" in notes
    assert "fewer than 3 samples" in notes


def test_views_are_read_like_runs(corpus, samples, tmp_path):
    view = str(tmp_path / "view")
    select(corpus.url, view, SelectionSettings(min_score=0.8))
    whole = {s.key: s for s in samples}
    found = list(read_samples(view, corpus.url))
    assert 0 < len(found) < len(whole)
    for sample in found:
        np.testing.assert_array_equal(sample.labels, whole[sample.key].labels)
    pairs = list(segmentation_dataset(view, source=corpus.url))
    assert len(pairs) == len(found)
    for (_, mask), sample in zip(pairs, found, strict=True):
        np.testing.assert_array_equal(mask.numpy(), sample.labels)
    loader = torch.utils.data.DataLoader(
        segmentation_dataset(view, shuffle=50, seed=1, source=corpus.url),
        batch_size=None,
        num_workers=1,
    )
    assert len(list(loader)) == len(found)


def test_a_view_may_be_moved_with_its_corpus(tmp_path):
    write_corpus(tmp_path / "a" / "run", (20,))
    select(str(tmp_path / "a" / "run"), str(tmp_path / "a" / "view"), NOTHING)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len(list(read_samples(str(tmp_path / "b" / "view")))) == 20
    (tmp_path / "b" / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="must be moved together"):
        list(read_samples(str(tmp_path / "b" / "view")))


def test_a_source_that_is_not_beside_the_view_is_named_or_not_looked_at(corpus, tmp_path):
    view, said = str(tmp_path / "view"), []
    select(corpus.url, view, NOTHING, say=said.append)
    assert f"--source {corpus.url}" in said[-1]
    with pytest.raises(ConfigError, match=r"not in a folder beside it.*--source"):
        open_corpus(view)
    assert open_corpus(view, source=corpus.url).samples == len(read_view(view, corpus.url).keys)
    with pytest.raises(ConfigError, match="is no view"):
        open_corpus(corpus.url, source=view)


@pytest.mark.parametrize(
    "source",
    ["s3://bucket/corpus", "ftp://host/corpus", "../../run", "..", ".", "", "a\0b", "/etc"],
)
def test_what_a_view_names_elsewhere_is_not_looked_at(tmp_path, source):
    write_corpus(tmp_path / "run", (20,))
    view = tmp_path / "views" / "view"
    select(str(tmp_path / "run"), str(view), NOTHING)
    info = json.loads((view / "selection.json").read_text())
    (view / "selection.json").write_text(json.dumps(info | {"source": source}))
    with pytest.raises(ConfigError, match="not in a folder beside it"):
        open_corpus(str(view))


def test_a_view_of_shards_that_changed_is_refused(tmp_path):
    store, _ = write_corpus(tmp_path / "run", (20,))
    view = str(tmp_path / "view")
    select(store.url, view, NOTHING)
    record = json.loads(store.read("manifests/000000.json"))
    store.put("manifests/000000.json", json.dumps(record | {"sha256": "0" * 64}).encode())
    for read in (lambda: list(read_samples(view)), lambda: open_corpus(view)):
        with pytest.raises(ShardError, match="no longer has as they were"):
            read()


@pytest.mark.parametrize("damage", ["keys", "json", "table"])
def test_a_damaged_view_is_refused(tmp_path, damage):
    store, _ = write_corpus(tmp_path / "run", (20,))
    view = tmp_path / "view"
    select(store.url, str(view), NOTHING)
    if damage == "json":
        (view / "selection.json").write_text('{"kind": "ovamgen-view-v1"}')
    elif damage == "table":
        (view / "selection.parquet").write_bytes(b"no table")
    else:
        table = pq.read_table(view / "selection.parquet")
        pq.write_table(table.slice(1), view / "selection.parquet")
    with pytest.raises(ShardError, match="select' again"):
        read_view(str(view))


def test_a_copy_has_the_samples_bytes_and_is_a_corpus(corpus, tmp_path):
    settings = SelectionSettings(min_score=0.7)
    select(corpus.url, str(tmp_path / "view"), settings)
    done = select(corpus.url, str(tmp_path / "copy"), settings, copy=True)
    assert read_view(str(tmp_path / "copy")) is None
    view = open_corpus(str(tmp_path / "view"), source=corpus.url)
    copy = open_corpus(str(tmp_path / "copy"))
    assert [r.name for r in copy.records] == [f"train-{index:06d}.tar" for index in range(3)]
    for old, new in zip(view.records, copy.records, strict=True):
        assert list(view.read(old)) == list(copy.read(new))
        assert view.metadata(old).equals(copy.metadata(new))
        assert new.failed == 1
    assert copy.samples == done.samples
    assert copy.fingerprint != view.all_records[0].fingerprint
    assert copy.run_info["derived"]["command"] == "select"
    again = select(corpus.url, str(tmp_path / "again"), settings, copy=True)
    assert again.samples == done.samples
    assert digests(tmp_path / "again") == digests(tmp_path / "copy")


def test_a_copy_goes_on_where_it_stopped(corpus, tmp_path):
    settings = SelectionSettings(min_score=0.7)
    select(corpus.url, str(tmp_path / "whole"), settings, copy=True)
    select(corpus.url, str(tmp_path / "cut"), settings, copy=True)
    # as if killed after the first shard
    cut = LocalStore(tmp_path / "cut")
    request = json.loads(cut.read("selection.json"))["request"]
    for name in ("selection.json", "manifest.json", "manifests/000001.json", "train-000001.tar"):
        cut.delete(name)
    cut.put("INCOMPLETE.json", json.dumps(request).encode())
    before = os.stat(tmp_path / "cut" / "train-000000.tar").st_mtime_ns
    select(corpus.url, str(tmp_path / "cut"), settings, copy=True)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    assert os.stat(tmp_path / "cut" / "train-000000.tar").st_mtime_ns == before


def test_selecting_from_a_view(corpus, samples, tmp_path):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    select(corpus.url, first, dataclasses.replace(NOTHING, min_score=0.7))
    chosen = dataclasses.replace(NOTHING, max_area=0.5)
    done = select(first, second, chosen, source=corpus.url)
    expected = [
        s.key
        for s in samples
        if min(s.metadata["scores"]) >= 0.7 and max(s.metadata["areas"]) <= 0.5
    ]
    assert [s.key for s in read_samples(second, corpus.url)] == expected
    assert done.funnel.planned == len(read_view(first, corpus.url).keys)
    assert read_view(second, corpus.url).info["parents"][0]["settings"]["min_score"] == 0.7


def test_the_table_holds_every_candidate(corpus, samples, tmp_path):
    select(corpus.url, str(tmp_path / "view"), SelectionSettings(min_score=0.7))
    table = pd.read_parquet(tmp_path / "view" / "selection.parquet")
    assert len(table) == 170
    assert set(table[table.kept].reason) == {""}
    assert "min_score" in set(table[~table.kept].reason)
    by_key = {s.key: s.metadata for s in samples}
    for row in table.itertuples():
        assert row.areas.tolist() == by_key[row.key]["areas"]
        assert row.class_ids.tolist() == by_key[row.key]["class_ids"]


def test_equal_selections_are_equal_files_and_are_not_made_twice(corpus, tmp_path):
    for name in ("a", "b"):
        select(corpus.url, str(tmp_path / name), SelectionSettings())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    before = (tmp_path / "a" / "selection.json").stat().st_mtime_ns
    select(corpus.url, str(tmp_path / "a"), SelectionSettings())
    assert (tmp_path / "a" / "selection.json").stat().st_mtime_ns == before


def test_outputs_that_hold_something_else_are_refused(corpus, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"must be empty .*holds thesis\.tex"):
        select(corpus.url, str(tmp_path / "full"), NOTHING)
    with pytest.raises(ConfigError, match="must be empty"):
        select(corpus.url, corpus.url, NOTHING)
    select(corpus.url, str(tmp_path / "view"), NOTHING)
    with pytest.raises(ConfigError, match="made with other settings"):
        select(corpus.url, str(tmp_path / "view"), SelectionSettings())


def test_a_run_that_is_not_finished_needs_to_be_asked_for(tmp_path):
    store, _ = write_corpus(tmp_path / "run", (20, 20), finished=False)
    with pytest.raises(ConfigError, match=r"not finished \(2 shards are there\).*--partial"):
        select(store.url, str(tmp_path / "view"), NOTHING)
    assert not (tmp_path / "view").exists()
    assert select(store.url, str(tmp_path / "view"), NOTHING, partial=True).samples == 40


def test_a_selection_of_nothing(corpus, tmp_path):
    impossible = dataclasses.replace(NOTHING, min_score=1.0)
    done = select(corpus.url, str(tmp_path / "view"), impossible)
    assert done.samples == 0
    assert "nothing is kept" in done.funnel.notes
    with pytest.raises(ConfigError, match="keeps no sample"):
        open_corpus(str(tmp_path / "view"), source=corpus.url)
    with pytest.raises(ConfigError, match="no shards to write"):
        select(corpus.url, str(tmp_path / "copy"), impossible, copy=True)
    assert LocalStore(tmp_path / "copy").list() == []
    assert select(corpus.url, str(tmp_path / "copy"), NOTHING, copy=True).samples


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_score": 1.5}, "min-score must be from 0 to 1"),
        ({"area_quantiles": (0.9, 0.1)}, "the lower one first"),
        ({"max_per_class": 0}, "at least 1"),
    ],
)
def test_settings_that_make_no_sense(values, message):
    with pytest.raises(ConfigError, match=message):
        SelectionSettings(**values)


def test_classes_that_the_corpus_does_not_have(corpus, tmp_path):
    settings = SelectionSettings(classes=("unicorn",))
    with pytest.raises(ConfigError, match="unknown class 'unicorn'"):
        select(corpus.url, str(tmp_path / "view"), settings)
    assert not (tmp_path / "view").exists()


def test_keys_are_a_set_of_strings():
    keys = Keys(["00000100002", "00000000001", "00000100002"])
    assert list(keys) == ["00000000001", "00000100002"]
    assert "00000100002" in keys
    assert "00000100003" not in keys
    assert 7 not in keys
    assert list(keys.of_shard(1)) == ["00000100002"]
    assert len(keys.of_shard(2)) == 0
    assert len(Keys([])) == 0
    assert "x" not in Keys([])


def test_nothing_of_selecting_needs_torch():
    code = (
        "import sys, ovamgen.corpus.select.select, ovamgen.corpus.reannotate\n"
        "import ovamgen.corpus.export.voc, ovamgen.corpus.export.hf\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'ray', 'webdataset', 'datasets'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
