import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from ovamgen.errors import ConfigError
from ovamgen.plan.captions import read_captions
from recipes.mini.composites import Composer
from recipes.mini.voc import write_voc
from tests.voc import VOC_CLASSES, voc_palette

COUNTS = {"train": 20, "val": 10, "test": 5}


@pytest.fixture(scope="module")
def folder(sprites, tmp_path_factory):
    folder = tmp_path_factory.mktemp("voc") / "set"
    write_voc(folder, sprites, COUNTS)
    return folder


def rows(folder):
    with (folder / "captions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_layout_is_that_of_voc(folder):
    names = []
    for split, count in COUNTS.items():
        listed = (folder / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
        assert len(listed) == count
        names += listed
    assert {path.stem for path in (folder / "JPEGImages").glob("*.jpg")} == set(names)
    assert {path.stem for path in (folder / "SegmentationClass").glob("*.png")} == set(names)
    assert [row["name"] for row in rows(folder)] == names


def test_masks_are_palette_images_of_the_exact_labels(folder, sprites):
    composer = Composer(
        sprites=sprites,
        members=sprites.of_split("val"),
        seed=102,
        three_object_share=0.08,
        overlaps=True,
    )
    for index in range(10):
        mask = Image.open(folder / "SegmentationClass" / f"val_{index:06d}.png")
        assert mask.mode == "P"
        assert mask.getpalette()[:63] == voc_palette().reshape(-1)[:63].tolist()
        expected = composer.compose(index, class_id=index + 1)
        assert np.array_equal(np.asarray(mask), expected.labels)
        image = np.asarray(Image.open(folder / "JPEGImages" / f"val_{index:06d}.jpg")).astype(int)
        assert np.abs(image - expected.image).mean() < 4


def test_classes_take_turns_and_rows_name_them(folder):
    ids = {voc_class.name: voc_class.id for voc_class in VOC_CLASSES}
    train = [row for row in rows(folder) if row["split"] == "train"]
    assert [ids[row["classes"].split(";")[0]] for row in train] == list(range(1, 21))
    for row in train:
        mask = np.asarray(Image.open(folder / "SegmentationClass" / f"{row['name']}.png"))
        assert set(np.unique(mask)) == {0, *(ids[name] for name in row["classes"].split(";"))}


def test_equal_arguments_give_equal_bytes(folder, sprites, tmp_path):
    write_voc(tmp_path / "again", sprites, COUNTS)

    def digests(root):
        return {
            path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*")
            if path.is_file()
        }

    assert digests(tmp_path / "again") == digests(folder)


def test_a_folder_that_holds_something_is_refused(folder, sprites):
    with pytest.raises(ConfigError, match="must be new or empty"):
        write_voc(folder, sprites, COUNTS)


def test_an_unknown_split_is_refused(sprites, tmp_path):
    with pytest.raises(ConfigError, match=r"train, val, test, got trainval"):
        write_voc(tmp_path / "voc", sprites, {"trainval": 3})
    assert not (tmp_path / "voc").exists()


def test_its_captions_name_their_classes_as_plans_read_them(folder):
    with (folder / "captions.csv").open(newline="") as file:
        expected = [
            (row["caption"], tuple(row["classes"].split(";"))) for row in csv.DictReader(file)
        ]
    found = [(c.text, c.classes) for c in read_captions(str(folder / "captions.csv")).captions]
    assert found == expected
    assert any(len(classes) > 1 for _, classes in found)
