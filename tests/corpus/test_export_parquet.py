"""`ovamgen export parquet`: what `datasets` makes of it, from the files and from the folder."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.export import parquet
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.options import ExportOptions
from ovamgen.corpus.export.parquet import ParquetFormat
from tests.corpus.corpora import FEW, patchwork_samples, plain_samples, write_corpus

datasets = pytest.importorskip("datasets")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("offline_datasets"),
]

HALVES = ExportOptions.parse(split="train=0.6,val=0.4")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus") / "run"
    return write_corpus(root, (7, 4), patchwork_samples, classes=FEW)[0]


@pytest.fixture(scope="module")
def exported(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("parquet")
    export_folder(corpus.url, str(out), ParquetFormat(overlay=True), HALVES)
    return out


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_datasets_reads_pictures_and_names(exported, corpus, tmp_path, streaming, whole):
    """The folder with its card, and the bare files, whose schema says the same."""
    samples = {sample.key: sample for sample in read_samples(corpus.url)}
    seen = []
    for split in ("train", "val"):
        place = (
            {"path": str(exported)}
            if whole
            else {
                "path": "parquet",
                "data_files": {split: str(exported / f"data/{split}-*.parquet")},
            }
        )
        rows = datasets.load_dataset(
            **place, split=split, streaming=streaming, cache_dir=str(tmp_path / "cache")
        )
        assert isinstance(rows.features["image"], datasets.Image)
        assert isinstance(rows.features["mask"], datasets.Image)
        names = rows.features["class_ids"].feature.names
        assert [names[label] for label in (0, 7, 9, 254)] == [
            "background",
            "lamp",
            "no class 9",
            "bench",
        ]
        for row in rows:
            sample = samples[row["key"]]
            seen.append(row["key"])
            assert HALVES.splits.of(row["key"]) == split
            np.testing.assert_array_equal(np.asarray(row["mask"]), sample.labels)
            np.testing.assert_array_equal(np.asarray(row["image"]), sample.image)
            assert row["class_ids"] == sample.metadata["class_ids"]
            assert row["caption"] == sample.caption
            assert row["overlay"].size == row["image"].size
    assert sorted(seen) == sorted(samples)


def test_the_overlay_shows_the_colours(tmp_path):
    labels = np.zeros((16, 24), np.uint8)
    labels[:, :8], labels[:, 16:] = 8, 255

    def samples(count, *, shard):
        grey = np.full((16, 24, 3), 100, np.uint8)
        return plain_samples(count, shard=shard, labels=labels, image=grey)

    store, _ = write_corpus(tmp_path / "run", (1,), samples)
    export_folder(store.url, str(tmp_path / "out"), ParquetFormat(overlay=True))
    (row,) = pq.read_table(tmp_path / "out" / "data" / "train-000000.parquet").to_pylist()
    overlay = np.asarray(datasets.Image().decode_example(row["overlay"]))
    # half grey, half VOC's colours of cats (64, 0, 0) and of ignored pixels (224, 224, 192)
    for label, colour in ((8, (82, 50, 50)), (0, (100, 100, 100)), (255, (162, 162, 146))):
        assert overlay[labels == label].mean(axis=0) == pytest.approx(colour, abs=6)


def test_the_card_has_features_and_counts(exported):
    _, header, body = (exported / "README.md").read_text().split("---\n", 2)
    data = yaml.safe_load(header)
    assert data["configs"][0]["data_files"] == [
        {"split": "train", "path": ["data/train-*.parquet"]},
        {"split": "val", "path": ["data/val-*.parquet"]},
    ]
    info = data["dataset_info"]
    assert [feature["name"] for feature in info["features"]] == [
        *("key", "image", "mask", "caption", "class_ids", "overlay")
    ]
    assert sum(split["num_examples"] for split in info["splits"]) == 11
    assert data["tags"] == ["synthetic", "parquet", "diffusers"]
    assert data["task_ids"] == ["semantic-segmentation"]
    assert "load_dataset(" in body


def test_groups_of_rows_are_small(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_A_GROUP", 3)
    export_folder(corpus.url, str(tmp_path), ParquetFormat())
    with pq.ParquetFile(tmp_path / "data" / "train-000000.parquet") as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        assert groups == [3, 3, 1]
        assert "overlay" not in file.schema_arrow.names
