"""The shards in the loaders of other projects (acceptance check 5); ids must be exact."""

import re

import numpy as np
import pytest

from ovamgen.shards.schema import SAMPLE_SCHEMA
from tests.finished_run import write_run
from tests.shards.samples import draw, make_spec

datasets = pytest.importorskip("datasets")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.usefixtures("offline_datasets"),
]


def _check(rows):
    rows = list(rows)
    assert len(rows) == 11
    for row in rows:
        shard, index = int(row["__key__"][:6]), int(row["__key__"][6:])
        _, labels, _ = draw(make_spec(index, shard=shard), 32, 48)
        np.testing.assert_array_equal(np.asarray(row["mask.png"]), labels)
        assert set(row["json"]) == set(SAMPLE_SCHEMA.names)
        assert row["json"]["scores"] == [0.912346]
        assert row["txt"] == row["json"]["caption"]
        assert row["jpg"].size == (48, 32)


@pytest.mark.parametrize("streaming", [True, False])
def test_hugging_face_by_files(run, streaming, tmp_path):
    rows = datasets.load_dataset(
        "webdataset",
        data_files=f"{run.url}/train-*.tar",
        split="train",
        streaming=streaming,
        cache_dir=str(tmp_path / "cache"),
    )
    _check(rows)


@pytest.mark.parametrize("streaming", [True, False])
def test_hugging_face_by_folder_and_card(run, streaming, tmp_path):
    """The card names the tars, so that the Parquet files beside them are not taken for data."""
    rows = datasets.load_dataset(
        run.url, split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    _check(rows)


def test_the_cards_example_runs(run, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", run.read("README.md").decode(), re.DOTALL)
    assert len(code.strip().splitlines()) == 3
    monkeypatch.chdir(run.url)
    names = {}
    exec(code, names)
    _, labels, _ = draw(make_spec(0), 32, 48)
    np.testing.assert_array_equal(np.asarray(names["mask"]), labels)
    assert names["image"].mode == "RGB"


def test_hugging_face_with_stored_heatmaps(tmp_path):
    store, _ = write_run(tmp_path / "out", 1, heatmaps=True)
    rows = datasets.load_dataset(
        "webdataset",
        data_files=f"{store.url}/train-*.tar",
        split="train",
        streaming=True,
        cache_dir=str(tmp_path / "cache"),
    )
    for index, row in enumerate(rows):
        _, _, heatmaps = draw(make_spec(index), 32, 48)
        found = np.array(row["heatmaps.npz"]["maps"])
        assert np.abs(found / 255 - heatmaps).max() < 0.01
    assert index == 2


# wids says "PIL" to itself, which it warns about, and leaves its files to the garbage collector
@pytest.mark.filterwarnings("ignore:String specifications for transformations:UserWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning")
def test_wids(run, tmp_path):
    wids = pytest.importorskip("wids")
    dataset = wids.ShardListDataset(f"{run.url}/index.json", cache_dir=str(tmp_path), keep=True)
    assert len(dataset) == 11
    keys = []
    for index in (0, 3, 4, 10):
        sample = dataset[index]
        keys.append(sample["__key__"])
        _, labels, _ = draw(make_spec(int(keys[-1][6:]), shard=int(keys[-1][:6])), 32, 48)
        np.testing.assert_array_equal(np.asarray(sample[".mask.png"]), labels)
    assert keys == ["00000000000", "00000000003", "00000100000", "00000200002"]
