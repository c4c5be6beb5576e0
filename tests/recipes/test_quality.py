import numpy as np
import pytest
from PIL import Image

from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import Sample, SampleFolder, read_mask
from recipes.mini.quality import draw_grid, judge, majority_class
from tests.voc import VOC_CLASSES


class ReadsColours:
    """Labels a pixel with its red value: an annotator whose answers are known."""

    def predict(self, images, *, mirror=False):
        return images[..., 0]


def picture(*labels, side=8):
    """Rows of the labels, all equally high."""
    image = np.zeros((side, side, 3), np.uint8)
    for index, label in enumerate(labels):
        image[index * side // len(labels) : (index + 1) * side // len(labels), ..., 0] = label
    return image


def folder_of(root, *named):
    samples = [
        Sample(key=f"{name}-{i}", class_name=name, prompt=f"a {name}", seed=i)
        for i, (name, _) in enumerate(named)
    ]
    folder = SampleFolder.create(root, samples, {"model": {"id": "mini"}})
    for sample, (_, image) in zip(samples, named, strict=True):
        folder.add_image(sample, image)
    return folder


@pytest.mark.parametrize(
    ("labels", "expected"), [((0, 0), 0), ((0, 8, 8, 3), 8), ((3, 8), 3), ((255, 255, 20, 0), 20)]
)
def test_the_majority_is_of_the_foreground(labels, expected):
    assert majority_class(picture(*labels)[..., 0]) == expected


def test_pictures_are_named_and_masks_of_the_right_ones_written(tmp_path):
    folder = folder_of(
        tmp_path / "samples",
        ("cat", picture(0, 8, 8, 12)),
        ("cat", picture(0, 12, 12, 8)),
        ("dog", picture(0, 0, 0, 12)),
        ("sofa", picture(0, 0)),
    )
    quality = judge(folder, ReadsColours(), tmp_path / "masks")
    assert quality.share == 0.5
    assert quality.class_shares == {"cat": 0.5, "dog": 1.0, "sofa": 0.0}
    report = quality.to_json()
    assert report["pictures"] == 4
    assert report["passed"] is False
    assert report["taken_for"] == {"cat": {"dog": 1}, "dog": {}, "sofa": {"nothing": 1}}
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [
        "cat-0.png",
        "dog-2.png",
    ]
    assert read_mask(tmp_path / "masks" / "cat-0.png").sum() == 32


def test_the_grid_shows_every_class(tmp_path):
    named = [(voc.name, picture(voc.id)) for voc in VOC_CLASSES for _ in range(4)]
    folder = folder_of(tmp_path / "samples", *named)
    draw_grid(folder, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 1000
    first = (tmp_path / "grid.png").read_bytes()
    draw_grid(folder, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes() == first
    with pytest.raises(ConfigError, match="too few"):
        draw_grid(folder, tmp_path / "grid.png", per_class=5)
