import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ovamgen.cli import app
from ovamgen.errors import ConfigError
from ovamgen.pictures.picture_set import in_turn, open_pictures
from ovamgen.pictures.sample_folder import save_mask
from ovamgen.plan.keys import sample_seed
from tests.evaluate.conftest import disc, labels_of, write_voc


def test_a_folder_of_samples(sample_folder):
    found = open_pictures(sample_folder)
    assert (found.kind, found.name, found.split) == ("samples", "drawn", "")
    assert [picture.key for picture in found.pictures] == ["cat-000", "dog-000"]
    cat = found.pictures[0]
    assert (cat.prompt, cat.height, cat.width) == ("A photograph of a cat", 64, 64)
    assert [(t.entry.name, t.word_included) for t in cat.targets] == [("cat", True)]
    assert found.notes == ("1 of 3 samples have no annotation: not scored.",)
    assert np.array_equal(found.truth(cat), np.where(disc(64, 64, 30, 30, 18), 8, 0))
    assert found.image(cat).shape == (64, 64, 3)
    assert found.settings["synthesis"]["steps"] == 2


def test_annotations_elsewhere(sample_folder, tmp_path):
    save_mask(disc(64, 64, 20, 20, 9), tmp_path / "tvmonitor-000.png")
    found = open_pictures(sample_folder, annotations=tmp_path)
    assert [picture.key for picture in found.pictures] == ["tvmonitor-000"]
    assert found.truth(found.pictures[0]).max() == 20


def test_an_annotation_without_sample(sample_folder, tmp_path):
    save_mask(disc(64, 64, 20, 20, 9), tmp_path / "zebra-000.png")
    with pytest.raises(ConfigError, match=r"zebra-000.png does not: remove it"):
        open_pictures(sample_folder, annotations=tmp_path)


def test_an_annotation_of_another_size(sample_folder, tmp_path):
    save_mask(disc(32, 64, 20, 20, 9), tmp_path / "cat-000.png")
    with pytest.raises(ConfigError, match=r"must be 64x64 pixels .* got 32x64"):
        open_pictures(sample_folder, annotations=tmp_path)


def test_samples_without_any_annotation(sample_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"no sample of .* has an annotation"):
        open_pictures(sample_folder, annotations=tmp_path)


def test_a_sample_without_its_picture(sample_folder, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(sample_folder, copied)
    (copied / "images" / "dog-000.png").unlink()
    with pytest.raises(ConfigError, match=r"dog-000.png does not exist"):
        open_pictures(copied)


def test_a_voc_folder(voc_folder):
    found = open_pictures(voc_folder, seed=4)
    assert (found.kind, found.split, len(found.pictures)) == ("voc", "val", 6)
    last = found.pictures[-1]
    assert (last.key, last.prompt) == ("val_005", "an animal in the snow")
    assert [(t.entry.name, t.word_included) for t in last.targets] == [("dog", False)]
    assert last.seed == sample_seed(4, "val_005")
    assert set(np.unique(found.truth(last))) == {0, 12, 255}
    assert found.settings == {}
    assert found.notes == ()


def test_limits_take_classes_in_turn(voc_folder):
    found = open_pictures(voc_folder, limit=3)
    assert [picture.key for picture in found.pictures] == ["val_000", "val_001", "val_002"]
    assert found.notes == ("3 of 6 pictures were taken, from every class in turn.",)
    assert in_turn("aabcc", lambda letter: {"a": 3, "b": 1, "c": 2}[letter], 4) == list("bcac")


def test_pictures_without_captions_get_one(tmp_path):
    labels = labels_of(("cat", 40, 40, 20), ("diningtable", 90, 90, 20))
    nothing = np.zeros((128, 128), np.uint8)
    pictures = [("a", "", [], labels), ("b", "", [], nothing)]
    found = open_pictures(write_voc(tmp_path / "voc", pictures, captions=False))
    assert found.pictures[0].prompt == "A photograph of a cat and a dining table"
    assert all(target.word_included for target in found.pictures[0].targets)
    assert found.notes[0] == "1 pictures show none of the classes: not scored."
    assert "1 pictures have no caption" in found.notes[1]


def test_a_class_of_the_caption_that_no_pixel_shows_is_a_target(tmp_path):
    """Its truth is empty: whatever is claimed for it is wrong."""
    labels = labels_of(("cat", 40, 40, 20))
    pictures = [("a", "a dog and a cat", ["dog", "cat"], labels)]
    found = open_pictures(write_voc(tmp_path / "voc", pictures))
    assert [t.entry.name for t in found.pictures[0].targets] == ["dog", "cat"]


def test_masks_that_do_not_fit(voc_folder, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(voc_folder, copied)
    mask = Image.open(copied / "SegmentationClass" / "val_002.png").crop((0, 0, 50, 64))
    mask.save(copied / "SegmentationClass" / "val_002.png")
    with pytest.raises(ConfigError, match=r"val_002.png must be of the size of its picture"):
        open_pictures(copied)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "no split 'test'"),
        ({"annotations": "x"}, "--annotations is for folders of samples"),
        ({"limit": 0}, "--limit must be at least 1"),
    ],
)
def test_options_that_do_not_fit_a_voc_folder(voc_folder, options, message):
    with pytest.raises(ConfigError, match=message):
        open_pictures(voc_folder, **options)


def test_folders_that_are_neither(tmp_path, sample_folder):
    with pytest.raises(ConfigError, match="must be a folder, there is none"):
        open_pictures(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="it is neither"):
        open_pictures(tmp_path)
    with pytest.raises(ConfigError, match="--split is for folders in VOC's layout"):
        open_pictures(sample_folder, split="val")


def test_captions_that_are_no_table(voc_folder, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(voc_folder, copied)
    (copied / "captions.csv").write_text("picture,text\na,b\n")
    with pytest.raises(ConfigError, match="columns name and caption, it has picture, text"):
        open_pictures(copied)


def test_a_class_that_captions_do_not_name_right(voc_folder, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(voc_folder, copied)
    table = copied / "captions.csv"
    table.write_text(table.read_text().replace(",dog,", ",dgo,", 1))
    with pytest.raises(ConfigError, match=r"captions.csv, line 3: unknown class 'dgo'"):
        open_pictures(copied)


def test_the_set_that_ships_with_mini():
    found = open_pictures("mini")
    assert (found.kind, found.split, len(found.pictures)) == ("voc", "val", 100)
    first = found.pictures[0]
    assert first.prompt == "a photograph of an aeroplane next to a dining table in the desert"
    assert [target.entry.name for target in first.targets] == ["aeroplane", "diningtable"]


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (["masks"], "scores.json"),
        pytest.param(
            ["compare", "--presets", "ovam-voc-sim"], "comparison.json", marks=pytest.mark.slow
        ),
        (["compare", "--quick", "--presets", "daam-ovam"], "comparison.json"),
    ],
)
def test_commands_on_the_set_that_ships_with_mini(command, written, tmp_path):
    small = ["--limit", "4", "--steps", "2", "--draws", "20"]
    place = ["--dataset", "mini", "--model", "mini", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["evaluate", *command, *place, *small])
    assert result.exit_code == 0, result.output
    assert (tmp_path / written).exists()
