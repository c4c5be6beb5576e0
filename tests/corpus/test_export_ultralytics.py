"""`ovamgen export ultralytics`: polygons, their stated loss, and what data.yaml says."""

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.export.engine import export_folder
from ovamgen.corpus.export.options import ExportOptions
from ovamgen.corpus.export.polygons import draw_polygons, polygons_of
from ovamgen.corpus.export.ultralytics import UltralyticsFormat
from ovamgen.errors import ConfigError
from tests.corpus.corpora import FEW, patchwork_samples, write_corpus
from tests.corpus.export_readers import read_polygons


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus") / "run"
    return write_corpus(root, (9, 3), patchwork_samples, classes=FEW)[0]


def drawn(region):
    return draw_polygons(list(polygons_of(region)), *region.shape)


def test_a_disc_with_a_hole_is_drawn_again_to_the_pixel():
    y, x = np.mgrid[:100, :140]
    disc = np.hypot(y - 50, x - 70) < 40
    np.testing.assert_array_equal(drawn(disc), disc)
    ring = disc & ~((abs(y - 48) < 12) & (abs(x - 80) < 9))
    (polygon,) = polygons_of(ring)
    np.testing.assert_array_equal(drawn(ring), ring)
    assert len(polygon) < 200


SLANTING_CUT = np.ones((7, 9), bool)
"""Its hole is joined to the corner by a cut that is neither level nor upright."""
SLANTING_CUT[5, 4] = False


@given(arrays(bool, (7, 9), elements=st.booleans()))
@example(SLANTING_CUT)
def test_no_pixel_of_a_region_is_lost(region):
    """Whatever it is: points, lines, parts that touch at a corner, holes in holes."""
    polygons = list(polygons_of(region))
    assert all(len(polygon) >= 3 for polygon in polygons)
    assert drawn(region)[region].all()


def test_the_card_states_the_loss(corpus, tmp_path):
    export_folder(corpus.url, str(tmp_path), UltralyticsFormat("polygons"))
    found = read_polygons(tmp_path, FEW)
    masks = {sample.key: sample.labels for sample in read_samples(corpus.url)}
    assert sorted(found) == sorted(masks)
    ious = {}
    for entry in FEW.classes:
        pairs = [(found[key] == entry.id, masks[key] == entry.id) for key in masks]
        common = sum((a & b).sum() for a, b in pairs)
        ious[entry.name] = common / sum((a | b).sum() for a, b in pairs)
    card = (tmp_path / "README.md").read_text()
    rows = [line for line in card.splitlines() if line.startswith(("| IoU", "| pixels that"))]
    told = [float(line.split("|")[2].split()[0]) for line in rows]
    ignored = np.mean([labels == 255 for labels in masks.values()])
    # the card's are of each class alone; where polygons of two overlap, the later one is on top
    assert told == pytest.approx(
        [np.mean([*ious.values()]), min(ious.values()), 100 * ignored], abs=0.02
    )
    assert 0.85 < told[1] <= told[0] <= 1
    assert f"({min(ious, key=ious.get)})" in rows[1]


def test_splits_are_those_that_data_yaml_knows(corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"knows train, val, test; got --split train=0\.9,dev"):
        export_folder(
            corpus.url,
            str(tmp_path / "new"),
            UltralyticsFormat(),
            ExportOptions.parse(split="train=0.9,dev=0.1"),
        )
    one = ExportOptions.parse(split="train=1", only_classes="bench")
    export_folder(corpus.url, str(tmp_path / "one"), UltralyticsFormat("polygons"), one)
    data = yaml.safe_load((tmp_path / "one" / "data.yaml").read_text())
    assert data == {"train": "images/train", "val": "images/train", "names": {0: "bench"}}
    three = ExportOptions.parse(split="train=0.4,val=0.3,test=0.3")
    export_folder(corpus.url, str(tmp_path / "three"), UltralyticsFormat(), three)
    data = yaml.safe_load((tmp_path / "three" / "data.yaml").read_text())
    assert [data[name] for name in ("train", "val", "test")] == [
        "images/train",
        "images/val",
        "images/test",
    ]
    assert (data["names"][7], data["names"][9], data["names"][254]) == (
        "lamp",
        "no class 9",
        "bench",
    )
