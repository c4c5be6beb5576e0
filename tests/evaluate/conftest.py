"""Small data sets of both kinds: coloured discs that the masks mark exactly."""

import csv

import numpy as np
import pytest
from PIL import Image

from ovamgen.config import build_config
from ovamgen.pictures.draw import class_samples, draw_samples
from ovamgen.pictures.sample_folder import save_mask
from tests.golden.reference import TINY_SD
from tests.voc import class_by_name, voc_palette

SIDE = 128


def tiny(**sections):
    """A configuration of the random SD of 64x64 pixels in one step."""
    base = {
        "model": {"id": str(TINY_SD), "device": "cpu"},
        "synthesis": {"steps": 2, "height": 64, "width": 64},
        "runtime": {"cpu_threads": 1},
    }
    for name, values in sections.items():
        base[name] = base.get(name, {}) | values
    return build_config(base)


def disc(height, width, row, column, radius):
    rows, columns = np.mgrid[:height, :width]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def write_voc(root, pictures, split="val", captions=True):
    """Pictures are (name, caption, [classes], labels, [ignored])."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (name, caption, classes, labels) in enumerate(pictures):
        generator = np.random.default_rng(number)
        image = generator.integers(0, 60, (*labels.shape, 3), dtype=np.uint8)
        image[labels > 0] += np.array([150, 100, 20], np.uint8)
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        mask = Image.fromarray(labels)
        mask.putpalette(voc_palette().tobytes())
        mask.save(root / "SegmentationClass" / f"{name}.png")
        rows.append((name, split, caption, ";".join(classes), "plain"))
    names = "".join(f"{row[0]}\n" for row in rows)
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(names)
    if captions:
        with (root / "captions.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("name", "split", "caption", "classes", "background"))
            writer.writerows(rows)
    return root


def labels_of(*discs, height=SIDE, width=SIDE):
    labels = np.zeros((height, width), np.uint8)
    for name, row, column, radius in discs:
        labels[disc(height, width, row, column, radius)] = class_by_name(name).id
    return labels


@pytest.fixture(scope="session")
def voc_folder(tmp_path_factory):
    """Six pictures of cats and dogs; the last caption does not name its dog."""
    pictures = []
    for number in range(6):
        name, caption = ("cat", "a photo of a cat") if number % 2 == 0 else ("dog", "a dog")
        if number == 5:
            caption = "an animal in the snow"
        labels = labels_of((name, 25 + 2 * number, 30, 15), height=64, width=64)
        labels[:2] = 255
        pictures.append((f"val_{number:03d}", caption, [name], labels))
    return write_voc(tmp_path_factory.mktemp("voc") / "toy", pictures)


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory):
    """Three drawn samples of which two are annotated."""
    root = tmp_path_factory.mktemp("samples") / "drawn"
    samples = class_samples(per_class=1, names=["cat", "dog", "tv"])
    done = draw_samples(tiny(), samples, root)
    for sample in samples[:2]:
        save_mask(disc(64, 64, 30, 30, 18), done.folder.annotation_path(sample))
    return root
