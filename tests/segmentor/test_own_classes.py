"""Training and scoring on a corpus of other classes than VOC's, ids with gaps."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import default_classes
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.voc import VocFormat
from ovamgen.errors import ConfigError
from ovamgen.masks.confusion import ConfusionMatrix
from ovamgen.pictures.voc import VocFolder
from ovamgen.segmentor.network import load_segmentor, output_of_label
from ovamgen.segmentor.score import SegmentorScore, score_segmentor
from ovamgen.segmentor.settings import build_settings
from ovamgen.segmentor.training import train
from tests.own_classes import COLOURS, YARD, yard
from tests.pictures.voc_folders import write_voc

__all__ = ["yard"]


def settings(**values):
    return build_settings({"steps": 2, "batch_size": 2, "crop_px": 32} | values)


@pytest.fixture(scope="module")
def exported(yard, tmp_path_factory):
    """The corpus as pictures in VOC's layout, which say that they are of the yard."""
    root = tmp_path_factory.mktemp("exported")
    export_folder(str(yard), str(root), VocFormat(0.4))
    return root / "VOCdevkit"


@pytest.fixture(scope="module")
def trained(yard, exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(settings(shards=str(yard), real=str(exported)), folder)
    return folder


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """Pictures of VOC's classes."""
    return write_voc(tmp_path_factory.mktemp("voc"), {"train": 2, "val": 2})


def test_the_network_has_the_classes_of_its_data(trained, exported):
    segmentor = load_segmentor(trained)
    assert segmentor.classes == YARD
    assert segmentor.shape.num_classes == 4
    assert output_of_label(YARD)[[0, 1, 7, 254, 255, 2]].tolist() == [0, 1, 2, 3, 255, 255]
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    assert set(np.unique(segmentor.predict(noise))) <= {0, 1, 7, 254}
    assert segmentor.probabilities(noise[:1]).shape == (1, 4, 64, 64)
    assert VocFolder.open(exported, "val").classes == YARD


def test_scores_name_the_classes_and_not_voc(trained, exported, tmp_path):
    scored = score_segmentor(trained, exported, "val", tmp_path)
    told = json.loads((tmp_path / "scores.json").read_text())
    assert told == scored.to_json()
    assert list(told["iou"]) == ["background", "forklift", "pallet", "vehicle"]
    assert (told["classes"], told["miou_with_background"]) == (
        "yard",
        pytest.approx(scored.scores.miou_with_background, abs=1e-6),
    )
    page = (tmp_path / "scores.md").read_text()
    assert "| mIoU over the 3 foreground classes |" in page
    for text in (json.dumps(told), page, scored.to_text()):
        assert "VOC" not in text
    with Image.open(tmp_path / "sheet.png") as sheet:
        seen = {colour for _, colour in sheet.convert("RGB").getcolors(10**6)}
    assert seen & set(COLOURS.values())


def test_a_terminal_has_no_room_for_many_classes_that_do_not_occur():
    many = ClassSet.from_record(
        {"name": "many", "classes": [{"name": f"thing{number}x"} for number in range(150)]}
    )
    matrix = ConfusionMatrix(many.labels)
    matrix.add(np.array([0, 3, 150], np.uint8), np.array([0, 3, 9], np.uint8))
    score = SegmentorScore(
        classes=many,
        split="val",
        images=1,
        scores=matrix.scores(),
        all_background=0.1,
        mirrored=False,
    )
    text = score.to_text()
    assert text.count("absent") == 0
    assert len(text.splitlines()) < 15
    assert len(max(text.splitlines(), key=len)) < 600
    assert len(score.to_json()["iou"]) == 151


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"real": "{voc}"}, r"of the classes voc, and 'forklift' of yard is none"),
        ({"class_weights": [1.0] * 21}, "class_weights must be 4 numbers"),
        ({"init": "{of_voc}"}, r"labels the classes voc .*to train on are of yard .*give --init"),
        ({"shards": "{copies}/{{a,b}}/train-000000.tar"}, r"same classes: .*yard .*voc "),
    ],
)
def test_other_classes_are_refused_in_one_line(yard, voc, tmp_path, values, message):
    of_voc, copies = tmp_path / "of-voc", tmp_path / "copies"
    if "init" in values:
        train(settings(real=str(voc), steps=1), of_voc)
    for name in "ab":
        (copies / name).mkdir(parents=True)
        shutil.copy(yard / "train-000000.tar", copies / name)
    shutil.copy(yard / "run.yaml", copies / "a")
    places = {"voc": voc, "of_voc": of_voc, "copies": copies}
    given = {
        name: value.format(**places) if isinstance(value, str) else value
        for name, value in values.items()
    }
    with pytest.raises(ConfigError, match=message) as caught:
        train(settings(**{"shards": str(yard)} | given), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_score_on_pictures_of_another_set_is_refused(trained, voc, exported, tmp_path):
    with pytest.raises(ConfigError, match="of the classes voc, and 'forklift' of yard is none"):
        score_segmentor(trained, voc, "val", tmp_path / "scores")
    train(settings(real=str(voc), steps=1), tmp_path / "of-voc")
    with pytest.raises(ConfigError, match="of the classes yard, and 'aeroplane' of voc is none"):
        score_segmentor(tmp_path / "of-voc", exported, "val", tmp_path / "scores")
    with pytest.raises(ConfigError, match=r"labels the classes yard .*, not voc .*--classes"):
        score_segmentor(trained, exported, "val", tmp_path / "scores", classes=default_classes())
    assert not (tmp_path / "scores").exists()
