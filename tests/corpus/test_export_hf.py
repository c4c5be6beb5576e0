"""`ovamgen export hf`: what `datasets`, `webdataset`, `wids` and `mlcroissant` make of it."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tracemalloc

import numpy as np
import pytest
import webdataset as wds
import yaml

from ovamgen.corpus.dataset import read_samples, segmentation_dataset
from ovamgen.corpus.export.hf import export_hf
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError, ShardError
from ovamgen.shards.schema import SAMPLE_SCHEMA
from tests.corpus.corpora import plain_samples, quick_samples, write_corpus
from tests.runs import digests

datasets = pytest.importorskip("datasets")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("offline_datasets"),
]

CATS = SelectionSettings(area_quantiles=None, drop_uniform=False, classes=("cat", "person"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """8 + 3 samples; the shard between them has failures only."""
    root = tmp_path_factory.mktemp("corpus") / "run"
    return write_corpus(root, (8, 0, 3), plain_samples)[0]


@pytest.fixture(scope="module")
def exported(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("hf")
    done = export_hf(corpus.url, str(out), creator="An Institute", published="2026-01-31")
    assert (done.samples, done.shards) == (11, 2)
    return out


def check_rows(rows, root, source=None):
    """Exact ids {0, class, 255} and every field, against the corpus itself."""
    samples = {sample.key: sample for sample in read_samples(str(root), source)}
    rows = list(rows)
    assert [row["__key__"] for row in rows] == sorted(samples)
    for row in rows:
        sample = samples[row["__key__"]]
        labels = np.asarray(row["mask.png"])
        np.testing.assert_array_equal(labels, sample.labels)
        assert set(np.unique(labels)) == {0, *sample.metadata["class_ids"], 255}
        np.testing.assert_array_equal(np.asarray(row["jpg"]), sample.image)
        assert set(row["json"]) == set(SAMPLE_SCHEMA.names)
        assert row["json"] == sample.metadata
        assert row["txt"] == sample.caption


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_reads_the_folder(exported, corpus, streaming, tmp_path):
    rows = datasets.load_dataset(
        str(exported), split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    check_rows(rows, corpus.url)
    names = rows.features["json"]["class_ids"].feature.names
    assert (names[0], names[8], names[20]) == ("background", "cat", "tvmonitor")
    assert rows.info.splits["train"].num_examples == 11


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_reads_an_export_of_a_view(corpus, streaming, tmp_path):
    view, out = str(tmp_path / "view"), str(tmp_path / "hf")
    kept = select(corpus.url, view, CATS).samples
    export_hf(view, out, source=corpus.url)
    rows = list(
        datasets.load_dataset(
            out, split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")
        )
    )
    assert 0 < len(rows) == kept < 11
    check_rows(rows, view, corpus.url)
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "| derived by | `select` |" in card
    assert open_corpus(corpus.url).fingerprint in card


def test_datasets_reads_stored_heatmaps(tmp_path):
    store, _ = write_corpus(tmp_path / "run", (6,), plain_samples, heatmaps=True)
    export_hf(store.url, str(tmp_path / "hf"))
    for streaming in (True, False):
        rows = datasets.load_dataset(
            str(tmp_path / "hf"),
            split="train",
            streaming=streaming,
            cache_dir=str(tmp_path / "cache"),
        )
        for row, sample in zip(rows, read_samples(store.url), strict=True):
            np.testing.assert_array_equal(row["heatmaps.npz"]["maps"], sample.heatmaps)
            assert tuple(row["heatmaps.npz"]["class_ids"]) == sample.heatmap_class_ids


@pytest.mark.parametrize("decoder", ["pil", "l8"])
def test_webdataset_decodes_exact_ids(exported, corpus, decoder):
    samples = {sample.key: sample for sample in read_samples(corpus.url)}
    tars = sorted(map(str, exported.glob("*.tar")))
    pipeline = wds.DataPipeline(
        wds.SimpleShardList(tars), wds.tarfile_to_samples(), wds.decode(decoder)
    )
    count = 0
    for row in pipeline:
        sample = samples[row["__key__"]]
        mask = np.asarray(row["mask.png"])
        for channel in np.atleast_3d(mask).transpose(2, 0, 1):
            np.testing.assert_array_equal(channel, sample.labels)
        assert set(np.unique(mask)) == {0, *sample.metadata["class_ids"], 255}
        count += 1
    assert count == 11


def test_ovamgen_reads_it_as_a_corpus(exported, corpus):
    assert [s.key for s in read_samples(str(exported))] == [s.key for s in read_samples(corpus.url)]
    assert len(list(segmentation_dataset(str(exported)))) == 11
    assert open_corpus(str(exported)).fingerprint == open_corpus(corpus.url).fingerprint


def test_whole_tars_are_linked_and_may_be_copied(corpus, exported, tmp_path):
    export_hf(corpus.url, str(tmp_path / "copy"), link=False)
    for number in (0, 2):
        name = f"train-{number:06d}.tar"
        paths = [os.path.join(root, name) for root in (corpus.url, exported, tmp_path / "copy")]
        stats = [os.stat(path) for path in paths]
        assert stats[0].st_ino == stats[1].st_ino
        assert stats[0].st_ino != stats[2].st_ino
        with open(paths[0], "rb") as a, open(paths[2], "rb") as b:
            assert a.read() == b.read()
    assert not (exported / "train-000001.tar").exists()


def test_card(exported):
    _, header, body = (exported / "README.md").read_text().split("---\n", 2)
    data = yaml.safe_load(header)
    assert data["configs"][0]["data_files"] == [{"split": "train", "path": ["train-*.tar"]}]
    info = data["dataset_info"]
    assert info["splits"][0]["num_examples"] == 11
    assert [feature["name"] for feature in info["features"]] == [
        *("jpg", "json", "mask.png", "txt", "__key__", "__url__")
    ]
    assert data["annotations_creators"] == ["machine-generated"]
    assert data["task_ids"] == ["semantic-segmentation"]
    for heading in ("Loading", "Classes", "How it was made", "Known limits", "Licences"):
        assert f"\n## {heading}\n" in body
    for part in ("| code |", "| weights |", "| captions |", "| images and masks |"):
        assert part in body
    assert "random weights" in body


def test_wids_index_and_manifest(exported):
    index = json.loads((exported / "index.json").read_text())
    assert index["__kind__"] == "wids-shard-index-v1"
    assert sum(shard["nsamples"] for shard in index["shardlist"]) == 11
    for shard in index["shardlist"]:
        content = (exported / shard["url"]).read_bytes()
        assert shard["filesize"] == len(content)
        assert shard["md5sum"] == hashlib.md5(content).hexdigest()


@pytest.fixture
def croissant(exported, tmp_path):
    """A process of its own: mlcroissant keeps what it unpacks, by name, in one cache."""
    pytest.importorskip("mlcroissant")

    def run(code):
        environment = os.environ | {"CROISSANT_CACHE": str(tmp_path / "croissant")}
        program = f"import mlcroissant, json\nfolder = {str(exported)!r}\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_croissant_is_valid_and_loads(croissant, corpus):
    """Validated as Croissant 1.1 without a complaint, and read by mlcroissant's own loader."""
    done = croissant(
        "import numpy as np\n"
        "dataset = mlcroissant.Dataset(jsonld=folder + '/croissant.json')\n"
        "text = lambda value: value.decode() if isinstance(value, bytes) else value\n"
        "out = {'report': dataset.metadata.ctx.issues.report(),\n"
        "       'version': str(dataset.metadata.ctx.conforms_to.value)}\n"
        "for name, field in (('images', 'image'), ('masks', 'mask')):\n"
        "    out[name] = {text(r[f'{name}/key']):\n"
        "                 np.unique(np.asarray(r[f'{name}/{field}'])).tolist()\n"
        "                 for r in dataset.records(name)}\n"
        "for name in ('classes', 'splits', 'metadata'):\n"
        "    rows = [{k: str(text(v)) for k, v in r.items()} for r in dataset.records(name)]\n"
        "    out[name] = rows\n"
        "print(json.dumps(out))\n"
    )
    out = json.loads(done.stdout)
    assert out["report"] == ""
    assert out["version"] == "http://mlcommons.org/croissant/1.1"
    samples = {sample.key: sample for sample in read_samples(corpus.url)}
    assert out["masks"] == {k: np.unique(s.labels).tolist() for k, s in samples.items()}
    assert set(out["images"]) == set(samples)
    assert {row["classes/id"] for row in out["classes"]} == {*map(str, range(21)), "255"}
    assert [row["splits/name"] for row in out["splits"]] == ["train"]
    made = {r["metadata/key"]: r for r in out["metadata"] if r["metadata/status"] == "ok"}
    assert set(made) == set(samples)
    for key, row in made.items():
        assert row["metadata/caption"] == samples[key].caption
        assert int(row["metadata/seed"]) == samples[key].metadata["seed"]


def test_croissant_says_where_the_data_is_from(exported):
    document = json.loads((exported / "croissant.json").read_text())
    assert document["conformsTo"][0] == "http://mlcommons.org/croissant/1.1"
    files = [f for f in document["distribution"] if f["@type"] == "cr:FileObject"]
    for file in files:
        content = (exported / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["contentSize"] == f"{len(content)} B"
    assert "diffusion model: mini" in json.dumps(document["prov:wasDerivedFrom"])
    assert document["rai:machineAnnotationTools"]
    assert document["datePublished"] == "2026-01-31"
    assert document["creator"]["name"] == "An Institute"
    (splits,) = (r for r in document["recordSet"] if r["@id"] == "splits")
    assert splits["dataType"] == "cr:Split"
    (masks,) = (r for r in document["recordSet"] if r["@id"] == "masks")
    assert "cr:SegmentationMask" in masks["field"][1]["dataType"]


class Killed(BaseException):
    pass


def test_an_interrupted_export_says_so_and_goes_on(corpus, tmp_path):
    view = str(tmp_path / "view")
    select(corpus.url, view, CATS)
    export_hf(view, str(tmp_path / "whole"), source=corpus.url)

    def kill(samples):
        raise Killed

    out = tmp_path / "out"
    with pytest.raises(Killed):
        export_hf(view, str(out), source=corpus.url, after_shard=kill)
    assert (out / "INCOMPLETE.json").exists()
    assert not (out / "README.md").exists()
    with pytest.raises(ConfigError, match="made with other samples, source_fingerprint"):
        export_hf(corpus.url, str(out))
    export_hf(view, str(out), source=corpus.url)
    assert digests(out) == digests(tmp_path / "whole")
    before = digests(out)
    export_hf(view, str(out), source=corpus.url)
    assert digests(out) == before


def test_bad_input(corpus, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    with pytest.raises(ConfigError, match="holds mine"):
        export_hf(corpus.url, str(tmp_path / "full"))
    with pytest.raises(ConfigError, match="2026-01-31"):
        export_hf(corpus.url, str(tmp_path / "new"), published="yesterday")


@pytest.mark.parametrize("link", [True, False])
def test_a_damaged_tar_is_not_handed_on(tmp_path, link):
    store, _ = write_corpus(tmp_path / "run", (4,), plain_samples)
    path = tmp_path / "run" / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"train-000000\.tar has other bytes than its record says"):
        export_hf(store.url, str(tmp_path / "hf"), link=link)
    assert not (tmp_path / "hf" / "train-000000.tar").exists()
    assert (tmp_path / "hf" / "INCOMPLETE.json").exists()


def test_members_are_those_of_the_tar(exported):
    with tarfile.open(exported / "train-000000.tar") as tar:
        names = [member.name.partition(".")[2] for member in tar]
    assert names == ["jpg", "json", "mask.png", "txt"] * 8


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """The export of a view, where every tar is written anew: the peak is that of one shard."""
    peaks = []
    for name, shards in (("warm", 1), ("small", 1), ("large", 6)):
        store, _ = write_corpus(tmp_path / name, (50,) * shards, quick_samples, failures=0)
        view = str(tmp_path / f"{name}-view")
        select(store.url, view, CATS)
        tracemalloc.start()
        export_hf(view, str(tmp_path / f"{name}-hf"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 100 samples of about 6 kB were written more
    assert peaks[2] < peaks[1] + 150_000, peaks
