"""`ovamgen export coco` beyond the pixels: small regions, crowds in COCO's own scores."""

import copy
import json

import numpy as np
import pytest

from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.export.coco import CocoFormat
from ovamgen.corpus.export.engine import export_folder
from ovamgen.errors import ConfigError
from tests.corpus.corpora import FEW, patchwork_samples, plain_samples, write_corpus

# pycocotools' own
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Masks of one disc, with ignored pixels around it."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "run", (5, 2), plain_samples)[0]


def test_regions_below_the_least_area_are_left_out(tmp_path):
    store, _ = write_corpus(tmp_path / "run", (8,), patchwork_samples, classes=FEW)
    areas = {}
    for least in (1, 15):
        out = tmp_path / f"least-{least}"
        export_folder(store.url, str(out), CocoFormat(min_area=least))
        document = json.loads((out / "annotations" / "instances_train.json").read_text())
        rows = [row for row in document["annotations"] if not row["iscrowd"]]
        areas[least] = sorted(row["area"] for row in rows)
    assert areas[1][0] < 15
    assert areas[15] == [area for area in areas[1] if area >= 15]
    with pytest.raises(ConfigError, match="--min-area must be at least 1 pixel, got 0"):
        CocoFormat(min_area=0)


def test_parts_that_touch_at_a_corner_are_one(tmp_path):
    def samples(count, *, shard):
        labels = np.zeros((16, 24), np.uint8)
        labels[0:4, 0:4] = labels[4:8, 4:8] = labels[12:14, 0:4] = 8
        return list(plain_samples(count, shard=shard, labels=labels))

    store, _ = write_corpus(tmp_path / "run", (2,), samples)
    export_folder(store.url, str(tmp_path / "coco"), CocoFormat())
    document = json.loads((tmp_path / "coco" / "annotations" / "instances_train.json").read_text())
    assert [row["area"] for row in document["annotations"]] == [32, 8] * 2
    assert [row["id"] for row in document["annotations"]] == [1, 2, 3, 4]


def score(out, detections):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(out / "annotations" / "instances_train.json"))
    # it writes into what it is given
    evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


def test_what_is_found_in_ignored_pixels_is_no_error(corpus, tmp_path):
    """COCO's own scores: a detection more in the ignored pixels, or outside of them."""
    from pycocotools import mask as rle

    export_folder(corpus.url, str(tmp_path), CocoFormat())
    found = {"right": [], "ignored": [], "wrong": []}
    for sample in read_samples(corpus.url):
        (label,) = sample.metadata["class_ids"]
        regions = {"right": sample.labels == label, "ignored": sample.labels == 255}
        regions["wrong"] = sample.labels == 0
        for kind, region in regions.items():
            encoded = rle.encode(np.asfortranarray(region.astype(np.uint8)))
            found[kind].append(
                {
                    "image_id": int(sample.key),
                    "category_id": label,
                    "segmentation": {**encoded, "counts": encoded["counts"].decode()},
                    # the errors come first
                    "score": 0.5 if kind == "right" else 0.9,
                }
            )
    assert score(tmp_path, found["right"]) == 1
    assert score(tmp_path, found["right"] + found["ignored"]) == 1
    assert score(tmp_path, found["right"] + found["wrong"]) < 0.8


def test_an_image_that_shows_nothing_but_ignored_pixels_keeps_them(tmp_path):
    def samples(count, *, shard):
        labels = np.full((16, 24), 255, np.uint8)
        return list(plain_samples(count, shard=shard, labels=labels))

    store, _ = write_corpus(tmp_path / "run", (1,), samples)
    export_folder(store.url, str(tmp_path / "coco"), CocoFormat())
    document = json.loads((tmp_path / "coco" / "annotations" / "instances_train.json").read_text())
    (row,) = document["annotations"]
    # of the class that was asked of the model
    assert (row["category_id"], row["iscrowd"], row["area"]) == (1, 1, 16 * 24)
