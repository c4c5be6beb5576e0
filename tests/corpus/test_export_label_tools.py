"""`ovamgen export cvat` and `labelstudio` beyond the pixels."""

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovamgen.classes.class_set import ClassSet
from ovamgen.corpus.export import cvat, label_studio
from ovamgen.corpus.export.brush_rle import brush_rle
from ovamgen.corpus.export.cvat import CvatFormat
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.label_studio import LabelStudioFormat
from ovamgen.corpus.export.options import ExportOptions
from ovamgen.errors import ConfigError
from tests.corpus.corpora import FEW, patchwork_samples, quick_samples, write_corpus
from tests.corpus.export_readers import decode_brush, read_cvat


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 70)), elements=st.booleans()))
def test_brush_masks_come_back(region):
    wanted = np.repeat(region.ravel() * 255, 4)
    np.testing.assert_array_equal(decode_brush(brush_rle(region)), wanted)


def test_a_run_of_any_length_comes_back():
    for count in (1, 2, 4, 5, 64, 65, 16384, 16385, 40000):
        region = np.zeros((1, count + 1), bool)
        region[0, :count] = True
        found = decode_brush(brush_rle(region))
        assert (len(found), sum(found)) == (4 * count + 4, 255 * 4 * count)


def test_tasks_are_in_files_that_can_be_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(label_studio, "TASKS_A_FILE", 10)
    store, _ = write_corpus(tmp_path / "run", (7, 4), quick_samples, failures=0)
    form = LabelStudioFormat("https://pictures.example/")
    export_folder(store.url, str(tmp_path / "tasks"), form)
    files = sorted((tmp_path / "tasks" / "tasks").iterdir())
    assert [path.name for path in files] == ["train-000000.json", "train-000001.json"]
    tasks = [json.loads(path.read_text()) for path in files]
    assert [len(some) for some in tasks] == [10, 1]
    urls = [task["data"]["image"] for some in tasks for task in some]
    assert urls[0] == "https://pictures.example/00000000000.jpg"
    assert urls == sorted(set(urls))


def test_archives_are_small_enough_to_be_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(cvat, "SAMPLES_AN_ARCHIVE", 4)
    store, _ = write_corpus(tmp_path / "run", (5, 4), patchwork_samples, classes=FEW)
    halves = ExportOptions.parse(split="train=0.5,val=0.5")
    export_folder(store.url, str(tmp_path / "cvat"), CvatFormat(), halves)
    sizes = []
    for path in sorted((tmp_path / "cvat").glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            sizes.append(sum(name.startswith("JPEGImages/") for name in archive.namelist()))
            assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert sizes == [4, 4, 1]
    assert len(read_cvat(tmp_path / "cvat")) == 9


def test_labels_of_one_colour_are_no_labels_for_cvat(tmp_path):
    classes = ClassSet.from_record(
        {"name": "two", "classes": [{"name": "left"}, {"name": "right", "colour": "#800000"}]}
    )

    def samples(count, *, shard):
        return patchwork_samples(count, shard=shard, classes=classes)

    store, _ = write_corpus(tmp_path / "run", (1,), samples, classes=classes)
    with pytest.raises(ConfigError, match="left and right both have #800000"):
        export_folder(store.url, str(tmp_path / "cvat"), CvatFormat())
    assert not (tmp_path / "cvat").exists()
    one = ExportOptions.parse(only_classes="right")
    assert export_folder(store.url, str(tmp_path / "cvat"), CvatFormat(), one).samples
