"""Folders of generated samples: what is written is read, what is wrong is named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import (
    SAMPLES,
    SYNTHESIS,
    Sample,
    SampleFolder,
    read_mask,
    save_mask,
)

SETTINGS = {"model": {"id": "mini"}, "synthesis": {"steps": 30}}
CAT = Sample(key="cat-0", class_name="cat", prompt='a "cat", asleep', seed=2**63 - 1)
TABLE = Sample(
    key="table_1", class_name="diningtable", prompt="a plate", seed=0, word_included=False
)


@pytest.fixture
def folder(tmp_path):
    made = SampleFolder.create(tmp_path / "samples", [CAT, TABLE], SETTINGS)
    rng = np.random.default_rng(0)
    for sample in made.samples:
        made.add_image(sample, rng.integers(0, 256, (6, 10, 3), np.uint8))
    return made


def disc(height=6, width=10):
    mask = np.zeros((height, width), bool)
    mask[2:4, 3:7] = True
    return mask


def test_a_written_folder_is_read_as_it_was(folder):
    read = SampleFolder.open(folder.root)
    assert read.samples == (CAT, TABLE)
    assert read.settings == SETTINGS
    expected = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
    assert np.array_equal(read.image(CAT), expected)


def test_an_annotation_keeps_its_pixels_and_its_orientation(folder):
    save_mask(disc(), folder.annotation_path(CAT))
    assert np.array_equal(folder.annotation(CAT), disc())
    with Image.open(folder.annotation_path(CAT)) as picture:
        assert (picture.mode, picture.size, picture.getextrema()) == ("L", (10, 6), (0, 255))


def test_annotations_may_lie_in_another_folder(folder, tmp_path):
    save_mask(disc(), tmp_path / "elsewhere" / "cat-0.png")
    assert folder.annotation(CAT, tmp_path / "elsewhere").sum() == 8


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_any_picture_of_two_values_is_a_mask(tmp_path, mode):
    picture = Image.fromarray(np.where(disc(), 255, 0).astype(np.uint8))
    if mode == "P":
        picture = Image.fromarray(disc().astype(np.uint8))
        picture.putpalette([0, 0, 0, 128, 0, 0])
    elif mode == "RGBA":
        # opaque black is background: transparency says nothing
        picture = picture.convert("RGB")
        picture.putalpha(255)
    else:
        picture = picture.convert(mode)
    picture.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), disc())


def test_what_is_transparent_is_background(tmp_path):
    white = Image.new("RGBA", (10, 6), (255, 255, 255, 0))
    white.putalpha(Image.fromarray(np.where(disc(), 255, 0).astype(np.uint8)))
    white.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), disc())


def test_unusable_annotations_are_named(folder, tmp_path):
    path = folder.annotation_path(CAT)
    with pytest.raises(ConfigError, match=r"cat-0\.png does not exist"):
        folder.annotation(CAT)
    save_mask(disc(10, 6), path)
    with pytest.raises(ConfigError, match=r"must be 6x10 pixels .* got 10x6"):
        folder.annotation(CAT)
    save_mask(np.zeros((6, 10), bool), path)
    with pytest.raises(ConfigError, match="must mark the cat, it is empty"):
        folder.annotation(CAT)
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10)).save(path)
    with pytest.raises(ConfigError, match="got 60 values from 0 to 59"):
        folder.annotation(CAT)
    Image.fromarray(np.where(disc(), 200, 100).astype(np.uint8)).save(path)
    with pytest.raises(ConfigError, match="got 2 values from 100 to 200"):
        folder.annotation(CAT)
    path.write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="cannot be read as a picture"):
        folder.annotation(CAT)


def test_an_existing_folder_is_not_overwritten(folder):
    with pytest.raises(ConfigError, match="holds samples already"):
        SampleFolder.create(folder.root, [CAT], SETTINGS)


@pytest.mark.parametrize("key", ["", "a.b", "../a", "a/b", "x" * 65])
def test_keys_are_file_names(key):
    with pytest.raises(ConfigError, match="a key must be"):
        Sample(key=key, class_name="cat", prompt="", seed=0)


def test_keys_stand_once(tmp_path):
    with pytest.raises(ConfigError, match="each key must stand once, got cat-0"):
        SampleFolder.create(tmp_path / "s", [CAT, CAT], SETTINGS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,prompt,seed\n", "lacks class_name"),
        ("key,class_name,prompt,seed\n", "at least one sample"),
        ("key,class_name,prompt,seed\na,cat,p,x\n", "line 2: seed must be a whole number, got 'x'"),
        ("key,class_name,prompt,seed\na,cat,p,1\nb,catt,p,1\n", "line 3: .*catt"),
        ("key,class_name,prompt,seed\na,cat,p,-1\n", "line 2: sample a: seed"),
        ("key,class_name,prompt,seed\na,cat\n", "line 2: seed must be a whole number"),
    ],
)
def test_a_bad_list_is_refused_with_its_line(folder, text, message):
    (folder.root / SAMPLES).write_text(text)
    with pytest.raises(ConfigError, match=message):
        SampleFolder.open(folder.root)


def test_other_folders_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="must be a folder of samples"):
        SampleFolder.open(tmp_path)
    (folder.root / SYNTHESIS).write_text("- a list")
    with pytest.raises(ConfigError, match="must hold the sections"):
        SampleFolder.open(folder.root)
