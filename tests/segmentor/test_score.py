import json
import math

import numpy as np
import pytest
from PIL import Image

from ovamgen.classes.loading import default_classes
from ovamgen.errors import ConfigError
from ovamgen.masks.confusion import ConfusionMatrix
from ovamgen.pictures.voc import VocFolder
from ovamgen.segmentor import score as scoring
from ovamgen.segmentor.network import Segmentor, build_network, load_segmentor, save_segmentor
from ovamgen.segmentor.score import SegmentorScore, score_segmentor
from tests.pictures.voc_folders import draw, write_voc
from tests.segmentor.test_network import TINY
from tests.voc import IGNORE, voc_palette


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = write_voc(tmp_path_factory.mktemp("voc"), {"train": 1, "val": 5}, 40, 56)
    # one picture of another size in the middle
    image, labels = draw(50, 44, 32)
    Image.fromarray(image).save(root / "JPEGImages/val_002.jpg", quality=95)
    Image.fromarray(labels).save(root / "SegmentationClass/val_002.png")
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    save_segmentor(folder, build_network(TINY, 0), TINY, {})
    return folder


def test_the_score_is_that_of_the_networks_labels(voc, checkpoint, tmp_path):
    scored = score_segmentor(checkpoint, voc, "val", tmp_path)
    segmentor = load_segmentor(checkpoint)
    pixels = {class_id: [0, 0] for class_id in range(21)}
    for index in range(5):
        image = np.asarray(Image.open(voc / f"JPEGImages/val_{index:03d}.jpg"))
        truth = np.asarray(Image.open(voc / f"SegmentationClass/val_{index:03d}.png"))
        found = segmentor.predict([image])[0]
        counted = truth != IGNORE
        for class_id, sums in pixels.items():
            sums[0] += ((truth == class_id) & (found == class_id)).sum()
            sums[1] += (((truth == class_id) | (found == class_id)) & counted).sum()
    for class_id, (both, either) in pixels.items():
        value = scored.scores.iou[class_id]
        assert math.isnan(value) if not either else value == pytest.approx(both / either, abs=2e-3)
    assert scored.images == 5


def test_a_perfect_segmentor_scores_one(voc, checkpoint, tmp_path, monkeypatch):
    folder = VocFolder.open(voc, "val")
    truth = {e.image.tobytes(): e.labels for e in map(folder.read, range(len(folder)))}

    network = build_network(TINY, 0)

    class Perfect(Segmentor):
        def predict(self, images, *, mirror):
            labels = np.stack([truth[image.tobytes()] for image in images])
            return np.where(labels == IGNORE, 3, labels).astype(np.uint8)

    monkeypatch.setattr(
        scoring, "load_segmentor", lambda path, device: Perfect(network, TINY, device)
    )
    scored = score_segmentor(checkpoint, voc, "val", tmp_path)
    assert scored.scores.miou_with_background == 1
    assert scored.scores.miou_foreground == 1
    assert scored.scores.pixel_accuracy == 1
    # discs of 3 of the 20 classes; all-background has background's share only
    assert len(scored.scores.absent) == 17
    assert 0 < scored.all_background < 1 / 4


def test_the_files_say_the_same(voc, checkpoint, tmp_path):
    scored = score_segmentor(checkpoint, voc, "val", tmp_path / "a" / "b", limit=3)
    out = tmp_path / "a" / "b"
    assert {path.name for path in out.iterdir()} == {"scores.json", "scores.md", "sheet.png"}
    told = json.loads((out / "scores.json").read_text())
    assert told == scored.to_json()
    assert told["images"] == 3
    assert list(told["iou"]) == ["background", *(entry.name for entry in default_classes().classes)]
    page = (out / "scores.md").read_text()
    text = scored.to_text()
    for name, value in [
        ("mIoU over 21 classes with background (VOC)", told["miou_21_with_background"]),
        ("mIoU over the 20 foreground classes", told["miou_20_foreground"]),
    ]:
        assert f"| {name} | {100 * value:.1f} |" in page
        assert f"{name} " in text
    assert "left out of the means" in page


def test_predictions_are_masks_as_voc_has_them(voc, checkpoint, tmp_path):
    score_segmentor(checkpoint, voc, "val", tmp_path, predictions=True)
    segmentor = load_segmentor(checkpoint)
    names = [f"val_{index:03d}" for index in range(5)]
    assert sorted(file.stem for file in (tmp_path / "predictions").iterdir()) == names
    for name in names:
        image = np.asarray(Image.open(voc / f"JPEGImages/{name}.jpg"))
        with Image.open(tmp_path / f"predictions/{name}.png") as mask:
            assert mask.mode == "P"
            assert mask.getpalette() == voc_palette().ravel().tolist()
            same = np.asarray(mask) == segmentor.predict([image])[0]
        # in batches sums have other last bits
        assert same.mean() > 0.99


def test_the_sheet_shows_truth_and_prediction_in_vocs_colours(voc, checkpoint, tmp_path):
    score_segmentor(checkpoint, voc, "val", tmp_path)
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(10**6)}
    for class_id in (0, 8, 255):
        assert tuple(voc_palette()[class_id].tolist()) in colours


def test_both_means_and_absent_classes_are_named():
    matrix = ConfusionMatrix(21)
    matrix.add(np.array([0, 0, 3, 3], np.uint8), np.array([0, 5, 3, 3], np.uint8))
    score = SegmentorScore(
        classes=default_classes(),
        split="val",
        images=1,
        scores=matrix.scores(),
        all_background=0.5 / 2,
        mirrored=False,
    )
    told = score.to_json()
    assert told["miou_21_with_background"] == pytest.approx(0.5)  # (1/2 + 1 + 0) / 3
    assert told["miou_20_foreground"] == pytest.approx(0.5)  # (1 + 0) / 2
    assert told["only_predicted"] == ["bottle"]
    assert "bottle" not in told["absent"]
    assert len(told["absent"]) == 18
    assert told["iou"]["cat"] is None
    assert "| cat | absent |" in score.to_markdown()
    assert "counted as 0 as VOC does: bottle" in score.to_text()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "test"}, "no split 'test'"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"checkpoint": "none"}, "does not exist"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda"),
    ],
)
def test_bad_input_writes_nothing(voc, checkpoint, tmp_path, values, message):
    asked = {"checkpoint": checkpoint, "voc": voc, "split": "val", "out": tmp_path / "out"} | values
    with pytest.raises(ConfigError, match=message):
        score_segmentor(**asked)
    assert not (tmp_path / "out").exists()


def test_pictures_whose_probabilities_would_fill_memory_are_refused(
    voc, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr("ovamgen.segmentor.score.MAX_SCORED_PIXELS", 1000)
    with pytest.raises(ConfigError, match=r"at most 1000 pixels, val_\d+ is .* resize"):
        score_segmentor(checkpoint, voc, split="val", out=tmp_path / "out")
