"""``--split``, ``--size`` and ``--only-classes``, which every export takes, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.options import ExportOptions, Size
from ovamgen.corpus.export.splits import Splits
from ovamgen.corpus.export.voc import VocFormat
from ovamgen.errors import ConfigError
from tests.corpus.corpora import plain_samples, write_corpus

KEYS = [f"{index:011d}" for index in range(4000)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "run", (12, 3), plain_samples)[0]


def test_shares_are_kept_and_growing_moves_nothing():
    splits = Splits.parse("train=0.7, val=0.2, test=0.1")
    sides = [splits.of(key) for key in KEYS]
    shares = {name: sides.count(name) / len(KEYS) for name in splits.names}
    assert shares == pytest.approx({"train": 0.7, "val": 0.2, "test": 0.1}, abs=0.02)
    # by the key alone: whatever else there is
    assert [splits.of(key) for key in reversed(KEYS)] == sides[::-1]
    assert str(splits) == "train=0.7,val=0.2,test=0.1"


def test_a_share_that_shrinks_gives_up_keys_and_takes_none():
    small, large = Splits.parse("train=0.9,val=0.1"), Splits.parse("train=0.8,val=0.2")
    assert {k for k in KEYS if small.of(k) == "val"} < {k for k in KEYS if large.of(k) == "val"}
    assert [small.of(key) for key in KEYS] == [Splits.with_val(0.1).of(key) for key in KEYS]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train", "a number for the share of train"),
        ("train=0.9,val=some", "a number for the share of val"),
        ("train=0.9,val=0.2", r"add up to 1, got 'train=0\.9,val=0\.2', which is 1\.1"),
        ("train=1.5,val=-0.5", "from 0 to 1"),
        ("train=0.5,train=0.5", "each split once"),
        ("../train=1", "lower-case letters"),
        ("out=1", "lower-case letters"),
        ("", "lower-case letters"),
    ],
)
def test_wrong_splits(text, told):
    with pytest.raises(ConfigError, match=told):
        Splits.parse(text)


@pytest.mark.parametrize("text", ["0", "12x", "x12", "big", "-3", "3x0", "999999", "1e3"])
def test_wrong_sizes(text):
    with pytest.raises(ConfigError, match=f"got '{text}'"):
        Size.parse(text)


def test_sizes():
    assert Size.parse("256").of(512, 768) == (256, 384)
    assert Size.parse("256").of(768, 512) == (384, 256)
    assert Size.parse("640x480").of(512, 512) == (480, 640)
    assert [str(Size.parse(text)) for text in ("256", "640X480")] == ["256", "640x480"]


def voc(corpus, out, **options):
    done = export_folder(corpus.url, str(out), VocFormat(None), ExportOptions.parse(**options))
    return done, out / "VOCdevkit" / "VOC2012"


def test_splits_of_any_number(corpus, tmp_path):
    done, base = voc(corpus, tmp_path, split="train=0.5,val=0.3,test=0.2")
    lists = {
        path.stem: path.read_text().split()
        for path in (base / "ImageSets" / "Segmentation").iterdir()
    }
    assert {name: len(keys) for name, keys in lists.items() if name != "trainval"} == done.samples
    assert lists["trainval"] == sorted(lists["train"] + lists["val"])
    splits = Splits.parse("train=0.5,val=0.3,test=0.2")
    every = sorted(sample.key for sample in read_samples(corpus.url))
    for name in splits.names:
        assert lists[name] == [key for key in every if splits.of(key) == name]


def test_both_are_resized(corpus, tmp_path):
    _, base = voc(corpus, tmp_path, split="train=1", size="48x8")
    for sample in read_samples(corpus.url):
        with Image.open(base / "JPEGImages" / f"{sample.key}.jpg") as image:
            assert image.size == (48, 8)
            assert b"trainedAlgorithmicMedia" in image.info["xmp"]
        with Image.open(base / "SegmentationClass" / f"{sample.key}.png") as mask:
            found = np.asarray(mask)
        # 24 x 16 before: every column twice, every second row
        np.testing.assert_array_equal(found, sample.labels[1::2].repeat(2, axis=1))
    assert "crop_size = (8, 48)" in (tmp_path / "mmseg_config.py").read_text()


def test_other_classes_become_background(corpus, tmp_path):
    done, base = voc(corpus, tmp_path, split="train=1", only_classes="cat, tv")
    assert done.samples == {"train": 15}
    seen = set()
    for sample in read_samples(corpus.url):
        with Image.open(base / "SegmentationClass" / f"{sample.key}.png") as mask:
            found = np.asarray(mask)
        wanted = np.where(np.isin(sample.labels, [8, 20, 255]), sample.labels, 0)
        np.testing.assert_array_equal(found, wanted)
        seen |= set(np.unique(found).tolist())
    assert seen == {0, 8, 20, 255}
    assert (base / "classes.yaml").exists()
    rows = (tmp_path / "classes.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["background", "cat", "tvmonitor", "ignore"]


def test_what_is_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'horse'"):
        voc(corpus, tmp_path / "new", only_classes="hors")
    with pytest.raises(ConfigError, match="needs a split named train"):
        voc(corpus, tmp_path / "new", split="val=1")
    voc(corpus, tmp_path / "small", split="train=1", size="8")
    with pytest.raises(ConfigError, match=r"made with other only_classes, size"):
        voc(corpus, tmp_path / "small", split="train=1", only_classes="cat")
    assert not (tmp_path / "new").exists()
