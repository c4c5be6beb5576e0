"""Selecting, reannotating and exporting a corpus of other classes than VOC's."""

import csv
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from ovamgen.classes.class_set import ClassSet
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.hf import export_hf
from ovamgen.corpus.export.voc import VocFormat
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.reannotate import reannotate
from ovamgen.corpus.select.clip import class_texts
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError
from ovamgen.integrity.verify import verify
from tests.own_classes import COLOURS, YARD, yard

__all__ = ["yard"]

ALL = SelectionSettings(area_quantiles=None, drop_uniform=False)


def test_the_corpus_names_its_classes(yard):
    assert open_corpus(str(yard)).classes == YARD
    assert not verify(str(yard)).findings


def test_a_selection_by_a_word_of_the_set(yard, tmp_path):
    settings = SelectionSettings(area_quantiles=None, drop_uniform=False, classes=("forklifts",))
    done = select(str(yard), str(tmp_path / "copy"), settings, copy=True)
    assert done.samples == 3  # of twelve; three more show a vehicle beside it
    assert list(done.funnel.by_class) == ["forklift", "pallet", "vehicle"]
    assert open_corpus(str(tmp_path / "copy")).classes == YARD
    with pytest.raises(ConfigError, match=r"unknown class 'sheep'.*forklift"):
        select(str(yard), str(tmp_path / "none"), SelectionSettings(classes=("sheep",)))


def test_texts_for_clip_are_of_the_set():
    assert class_texts(YARD) == [
        ("a forklift", "not a forklift"),
        ("a wooden pallet", "not a wooden pallet"),
        ("a vehicle", "not a vehicle"),
    ]


def test_reannotating_reads_the_classes_from_the_record(yard, tmp_path):
    out = tmp_path / "again"
    assert reannotate(str(yard), str(out), overrides={"tau": 0.6}).samples == 12
    assert open_corpus(str(out)).classes == YARD
    assert not verify(str(out)).findings


def test_voc_layout_of_own_classes(yard, tmp_path):
    export_folder(str(yard), str(tmp_path), VocFormat(0.3))
    base = tmp_path / "VOCdevkit" / "VOC2012"
    record = yaml.safe_load((base / "classes.yaml").read_text())
    assert ClassSet.from_record(record) == YARD
    seen = set()
    for path in base.glob("SegmentationClass/*.png"):
        with Image.open(path) as image:
            palette = np.array(image.getpalette()).reshape(256, 3)
            seen |= set(np.unique(np.asarray(image)).tolist())
        assert {label: tuple(palette[label]) for label in COLOURS} == COLOURS
    assert seen == {0, 1, 7, 254, 255}
    with (tmp_path / "classes.csv").open() as file:
        rows = {int(row["id"]): row for row in csv.DictReader(file)}
    assert list(rows) == [0, 1, 7, 254, 255]
    assert (rows[7]["name"], rows[7]["phrase"]) == ("pallet", "wooden pallet")
    assert [rows[7][name] for name in ("red", "green", "blue")] == ["0", "51", "204"]


def test_mmsegmentations_config_names_the_classes(yard, tmp_path):
    export_folder(str(yard), str(tmp_path), VocFormat(0.3))
    text = (tmp_path / "mmseg_config.py").read_text()
    assert "VOC 2012" not in text
    assert "PascalVOC" not in text
    config = {}
    exec(compile(text, "mmseg_config.py", "exec"), config)
    dataset = config["train_dataloader"]["dataset"]
    assert dataset["type"] == "BaseSegDataset"
    classes, palette = (dataset["metainfo"][name] for name in ("classes", "palette"))
    assert len(classes) == len(set(classes)) == len(palette) == 255
    assert [classes[label] for label in (0, 1, 7, 254)] == [
        "background",
        "forklift",
        "pallet",
        "vehicle",
    ]
    assert {label: tuple(palette[label]) for label in COLOURS} == COLOURS
    assert config["model"]["decode_head"]["num_classes"] == 255
    assert config["val_dataloader"]["dataset"]["data_root"] == dataset["data_root"]


def test_hugging_face_layout_of_own_classes(yard, tmp_path):
    export_hf(str(yard), str(tmp_path))
    card = (tmp_path / "README.md").read_text()
    assert "PASCAL" not in card
    assert "mask of the `yard`\nclasses" in card
    assert "| 254 | vehicle | vehicle | 6 |" in card
    header = yaml.safe_load(card.split("---\n")[1])
    (columns,) = [c for c in header["dataset_info"]["features"] if c["name"] == "json"]
    (ids,) = [field for field in columns["struct"] if field["name"] == "class_ids"]
    names = ids["list"]["class_label"]["names"]
    assert (names["0"], names["7"], names["254"]) == ("background", "pallet", "vehicle")
    assert list(names) == [str(label) for label in range(255)]
    croissant = json.loads((tmp_path / "croissant.json").read_text())
    assert "PASCAL VOC" not in json.dumps(croissant)
    (told,) = [r["data"] for r in croissant["recordSet"] if r["name"] == "classes"]
    assert [(row["classes/id"], row["classes/name"]) for row in told] == [
        (0, "background"),
        (1, "forklift"),
        (7, "pallet"),
        (254, "vehicle"),
        (255, "ignore"),
    ]
    assert open_corpus(str(tmp_path)).classes == YARD
    assert not verify(str(tmp_path)).findings
