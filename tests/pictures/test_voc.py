import numpy as np
import pytest
from PIL import Image

from ovamgen.errors import ConfigError
from ovamgen.pictures.voc import VocFolder
from tests.pictures.voc_folders import draw, write_voc
from tests.voc import IGNORE


@pytest.fixture
def folder(tmp_path):
    return write_voc(tmp_path / "voc", {"train": 3, "val": 2}, 40, 56)


def test_pictures_and_ids_are_read_exactly(folder):
    train = VocFolder.open(folder, "train")
    assert len(train) == 3
    for index in range(3):
        image, labels = draw(index, 40, 56)
        example = train.read(index)
        assert example.name == f"train_{index:03d}"
        assert example.image.shape == (40, 56, 3)
        assert np.abs(example.image.astype(int) - image).mean() < 12
        np.testing.assert_array_equal(example.labels, labels)
        assert IGNORE in example.labels


def test_a_vocdevkit_and_its_parent_are_understood(folder, tmp_path):
    (tmp_path / "up" / "VOCdevkit").mkdir(parents=True)
    folder.rename(tmp_path / "up" / "VOCdevkit" / "VOC2012")
    for root in ("up", "up/VOCdevkit", "up/VOCdevkit/VOC2012"):
        assert len(VocFolder.open(tmp_path / root, "val")) == 2


def test_a_list_with_a_second_column_names_the_same_pictures(folder):
    path = folder / "ImageSets/Segmentation/train.txt"
    path.write_text("".join(f"{name}  1\n" for name in path.read_text().split()) + "\n")
    assert VocFolder.open(folder, "train").names == ("train_000", "train_001", "train_002")


def test_grey_label_maps_are_read_like_palette_ones(folder):
    _, labels = draw(0, 40, 56)
    Image.fromarray(labels).save(folder / "SegmentationClass/train_000.png")
    np.testing.assert_array_equal(VocFolder.open(folder, "train").read(0).labels, labels)


def test_the_digest_is_of_names_and_files(folder):
    digest = VocFolder.open(folder, "train").digest()
    assert digest == VocFolder.open(folder, "train").digest()
    assert digest != VocFolder.open(folder, "val").digest()
    image, _ = draw(9, 40, 56)
    Image.fromarray(image).save(folder / "JPEGImages/train_001.jpg", quality=30)
    assert digest != VocFolder.open(folder, "train").digest()


def test_a_missing_file_is_named(folder):
    (folder / "SegmentationClass/train_001.png").unlink()
    with pytest.raises(ConfigError, match=r"SegmentationClass/train_001\.png cannot be found"):
        VocFolder.open(folder, "train")
    assert len(VocFolder.open(folder, "val")) == 2
    for name in ("train_000", "train_002"):
        (folder / f"JPEGImages/{name}.jpg").unlink()
    with pytest.raises(ConfigError, match=r"train_000\.jpg and 2 more files cannot be found"):
        VocFolder.open(folder, "train")


def test_splits_that_are_not_there_or_empty(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"no split 'test': .* there are train, val"):
        VocFolder.open(folder, "test")
    (folder / "ImageSets/Segmentation/test.txt").write_text("\n")
    with pytest.raises(ConfigError, match="must name at least one picture"):
        VocFolder.open(folder, "test")
    with pytest.raises(ConfigError, match="VOC's layout"):
        VocFolder.open(tmp_path / "nothing", "train")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((40, 55), np.uint8), "of the size of its picture, 40x56 .* got 40x55"),
        (np.full((40, 56), 21, np.uint8), "got 21 in 2240 pixels"),
        (np.zeros((40, 56, 3), np.uint8), "got mode RGB"),
    ],
)
def test_masks_that_are_no_label_maps(folder, mask, message):
    Image.fromarray(mask).save(folder / "SegmentationClass/train_000.png")
    with pytest.raises(ConfigError, match=message):
        VocFolder.open(folder, "train").read(0)


def test_damaged_files_are_named(folder):
    train = VocFolder.open(folder, "train")
    path = folder / "JPEGImages/train_002.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ConfigError, match=r"train_002\.jpg cannot be read as a picture"):
        train.read(2)
