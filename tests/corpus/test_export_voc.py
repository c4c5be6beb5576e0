"""`ovamgen export voc`, read by readers written after the documentation of other projects."""

import csv
import io
import json
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.splits import Splits
from ovamgen.corpus.export.voc import VocFormat, palette_png
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.corpus.view import read_view
from ovamgen.errors import ConfigError, ShardError
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import LocalStore
from tests.corpus.corpora import plain_samples, quick_samples, write_corpus
from tests.runs import digests
from tests.shards.samples import FINGERPRINT, make_sample, make_spec


class VocSegmentation:
    """As torchvision documents ``VOCSegmentation(root, year="2012", image_set=...)``.

    Names come from ImageSets/Segmentation/{set}.txt, one a line; images are JPEGImages/NAME.jpg,
    opened and converted to RGB; targets are SegmentationClass/NAME.png as Pillow opens them.
    """

    def __init__(self, root, image_set="train"):
        base = Path(root) / "VOCdevkit" / "VOC2012"
        if not base.is_dir():
            raise RuntimeError("Dataset not found or corrupted.")
        listed = base / "ImageSets" / "Segmentation" / f"{image_set}.txt"
        with listed.open() as file:
            names = [line.strip() for line in file]
        self.names = names
        self.images = [base / "JPEGImages" / f"{name}.jpg" for name in names]
        self.masks = [base / "SegmentationClass" / f"{name}.png" for name in names]
        assert all(path.is_file() for path in [*self.images, *self.masks])

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        with Image.open(self.images[index]) as image, Image.open(self.masks[index]) as target:
            return image.convert("RGB"), target.copy()


def devkit_palette():
    """VOC's colours as its development kit's VOClabelcolormap states them, bit by bit."""
    colours = []
    for label in range(256):
        red = green = blue = 0
        value = label
        for shift in range(7, -1, -1):
            red |= (value & 1) << shift
            green |= (value >> 1 & 1) << shift
            blue |= (value >> 2 & 1) << shift
            value >>= 3
        colours.append((red, green, blue))
    return colours


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """20 + 20 + 5 samples."""
    root = tmp_path_factory.mktemp("corpus") / "run"
    return write_corpus(root, (20, 20, 5), plain_samples)[0]


@pytest.fixture(scope="module")
def exported(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("voc")
    done = export_folder(corpus.url, str(out), VocFormat(0.3))
    return out, done


def test_torchvisions_layout_has_exact_ids(corpus, exported):
    out, done = exported
    samples = {sample.key: sample for sample in read_samples(corpus.url)}
    train, val = VocSegmentation(out, "train"), VocSegmentation(out, "val")
    assert (len(train), len(val)) == (done.samples["train"], done.samples["val"])
    assert 5 < len(val) < 25
    assert not set(train.names) & set(val.names)
    assert VocSegmentation(out, "trainval").names == sorted([*train.names, *val.names])
    assert set(train.names) | set(val.names) == set(samples)
    for part in (train, val):
        for name, (image, target) in zip(part.names, part, strict=True):
            sample = samples[name]
            assert target.mode == "P"
            np.testing.assert_array_equal(np.asarray(target), sample.labels)
            np.testing.assert_array_equal(np.asarray(image), sample.image)
            (class_id,) = sample.metadata["class_ids"]
            assert set(np.unique(np.asarray(target))) == {0, class_id, 255}


def test_images_are_the_same_files(corpus, exported):
    out, _ = exported
    for name in corpus.list("train-"):
        with corpus.open(name) as file, tarfile.open(fileobj=file) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    copied = out / "VOCdevkit" / "VOC2012" / "JPEGImages" / member.name
                    assert copied.read_bytes() == tar.extractfile(member).read()


def test_masks_carry_vocs_palette_in_eight_bits(exported):
    """Acceptance check 14: palette entry 255 is (224, 224, 192)."""
    out, _ = exported
    for path in sorted((out / "VOCdevkit" / "VOC2012" / "SegmentationClass").glob("*.png"))[:5]:
        with Image.open(path) as image:
            found = image.getpalette()
        assert [tuple(found[i : i + 3]) for i in range(0, 768, 3)] == devkit_palette()
        assert tuple(found[-3:]) == (224, 224, 192)
        assert path.read_bytes()[24:26] == bytes([8, 3])  # IHDR: eight bits, palette


def test_few_labels_still_take_eight_bits():
    data = palette_png(np.array([[0, 1], [1, 0]], np.uint8), bytes(768))
    assert data[24] == 8
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), [[0, 1], [1, 0]])


def test_mmsegmentations_config(exported):
    """What ``PascalVOCDataset`` needs (conventions 3.5): ann_file, names without suffix."""
    out, _ = exported
    text = (out / "mmseg_config.py").read_text().replace("{{ fileDirname }}", str(out))
    config = {}
    exec(compile(text, "mmseg_config.py", "exec"), config)
    dataset = config["train_dataloader"]["dataset"]
    root = Path(dataset["data_root"])
    assert dataset["type"] == "PascalVOCDataset"
    names = (root / dataset["ann_file"]).read_text().split()
    assert not any("." in name for name in names)
    prefix = dataset["data_prefix"]
    for name in names:
        assert (root / prefix["img_path"] / f"{name}.jpg").is_file()
        assert (root / prefix["seg_map_path"] / f"{name}.png").is_file()
    assert config["model"]["decode_head"]["num_classes"] == 21
    assert config["crop_size"] == (16, 24)
    annotations = [s for s in dataset["pipeline"] if s["type"] == "LoadAnnotations"]
    assert annotations == [{"type": "LoadAnnotations", "reduce_zero_label": False}]


def test_class_table(exported):
    out, _ = exported
    with (out / "classes.csv").open() as file:
        rows = {int(row["id"]): row for row in csv.DictReader(file)}
    assert list(rows) == [*range(21), 255]
    assert (rows[20]["name"], rows[20]["phrase"]) == ("tvmonitor", "tv")
    assert [rows[255][name] for name in ("red", "green", "blue")] == ["224", "224", "192"]
    assert {
        i: int(row["samples"]) for i, row in rows.items() if row["samples"] not in ("", "0")
    } == {
        1: 9,
        8: 9,
        11: 9,
        15: 9,
        20: 9,
    }


def is_val(key, share):
    return Splits.with_val(share).of(key) == "val"


def test_a_key_stays_on_its_side_when_others_come_or_go(corpus, tmp_path):
    view = str(tmp_path / "view")
    settings = SelectionSettings(area_quantiles=None, drop_uniform=False, classes=("cat", "tv"))
    select(corpus.url, view, settings)
    done = export_folder(view, str(tmp_path / "voc"), VocFormat(0.3), source=corpus.url)
    keys = list(read_view(view, corpus.url).keys)
    assert done.samples["train"] + done.samples["val"] == len(keys) == 18
    val = VocSegmentation(tmp_path / "voc", "val").names
    assert val == [key for key in keys if is_val(key, 0.3)]
    shares = [is_val(f"{index:011d}", 0.25) for index in range(4000)]
    assert 0.22 < np.mean(shares) < 0.28
    assert not any(is_val(f"{index:011d}", 0.0) for index in range(99))
    assert all(is_val(f"{index:011d}", 1.0) for index in range(99))


class Killed(BaseException):
    pass


def test_an_interrupted_export_says_so_and_goes_on(corpus, exported, tmp_path):
    out = tmp_path / "voc"
    count = 0

    def kill():
        nonlocal count
        count += 1
        if count == 27:
            raise Killed

    with pytest.raises(Killed):
        export_folder(corpus.url, str(out), VocFormat(0.3), after_sample=kill)
    assert (out / "INCOMPLETE.json").exists()
    assert not (out / "export.json").exists()
    assert not list(out.glob("VOCdevkit/VOC2012/ImageSets/Segmentation/*"))
    with pytest.raises(ConfigError, match="made with other val_share"):
        export_folder(corpus.url, str(out), VocFormat(0.2))
    count = 100
    export_folder(corpus.url, str(out), VocFormat(0.3), after_sample=kill)
    assert count == 125  # the first shard of 20 was not made again
    assert not (out / "INCOMPLETE.json").exists()
    assert digests(out) == digests(exported[0])


def test_a_whole_export_is_left_alone(corpus, exported):
    out, done = exported
    before = digests(out)
    assert export_folder(corpus.url, str(out), VocFormat(0.3)) == done
    assert digests(out) == before
    with pytest.raises(ConfigError, match="must be empty or hold what the same command made"):
        export_folder(corpus.url, str(out), VocFormat(0.4))


def test_foreign_folders_are_refused(corpus, tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(ConfigError, match=r"holds mine\.txt"):
        export_folder(corpus.url, str(tmp_path), VocFormat())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ConfigError, match="from 0 to 1"):
        export_folder(corpus.url, str(tmp_path / "new"), VocFormat(1.5))
    with pytest.raises(ConfigError, match="at least one finished shard"):
        export_folder(str(tmp_path), str(tmp_path / "new"), VocFormat())


def test_masks_that_are_not_vocs_are_refused(tmp_path):
    labels = np.full((48, 64), 21, np.uint8)
    store = LocalStore(tmp_path / "run")
    publish_shard(
        store,
        shard_index=0,
        split="train",
        samples=[make_sample(make_spec(0), labels=labels, areas=[1.0])],
        failures=[],
        fingerprint=FINGERPRINT,
    )
    with pytest.raises(ShardError, match=r"00000000000 in train-000000\.tar must have values 0 to"):
        export_folder(store.url, str(tmp_path / "voc"), VocFormat(), partial=True)
    assert not (tmp_path / "voc" / "export.json").exists()
    assert json.loads((tmp_path / "voc" / "INCOMPLETE.json").read_text())["samples"] == 1


def peak_of_export(root, out):
    tracemalloc.start()
    export_folder(str(root), str(out), VocFormat())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """Six times the shards: the same peak, but for the shard records themselves."""
    peaks = []
    for name, shards in (("warm", 1), ("small", 1), ("large", 6)):
        write_corpus(tmp_path / name, (25,) * shards, quick_samples, failures=0)
        peaks.append(peak_of_export(tmp_path / name, tmp_path / f"voc-{name}"))
    # 125 samples of 6 kB, 750 kB in all, were exported more
    assert peaks[2] < peaks[1] + 150_000, peaks


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["voc", "hf"])
def test_memory_of_the_command_with_many_samples(tmp_path, kind):
    """Resident memory at its peak: 1,000 samples against 20,000, of which a view keeps four fifths.

    Of these only the keys of the view (11 bytes each) and the shard records may grow.
    """
    peaks = []
    for name, shards in (("small", 1), ("large", 20)):
        store, _ = write_corpus(tmp_path / name, (1000,) * shards, quick_samples, failures=0)
        view = str(tmp_path / f"{name}-view")
        settings = SelectionSettings(
            area_quantiles=None,
            drop_uniform=False,
            classes=("aeroplane", "cat", "diningtable", "person"),
        )
        assert select(store.url, view, settings).samples == 800 * shards
        code = (
            "from pathlib import Path\nfrom ovamgen.cli.app import app\n"
            f"arguments = ['export', '{kind}', {view!r}, '--out', "
            f"{str(tmp_path / (name + '-' + kind))!r}]\n"
            "app(arguments, standalone_mode=False)\n"
            # not getrusage, which counts what the parent had before this program was begun
            "status = Path('/proc/self/status').read_text()\n"
            "print('peak', status.partition('VmHWM:')[2].split()[0])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=500
        )
        peaks.append(int(done.stdout.split()[-1]))
    print(f"\n{kind}: peak resident memory {peaks[0]} kB, {peaks[1]} kB")
    # 96 MB were exported more; what one needs of pyarrow's pools differs by up to 27 MB
    assert peaks[1] < peaks[0] + 48_000, peaks
