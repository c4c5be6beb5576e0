import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from ovamgen.classes.loading import default_classes
from ovamgen.report.panels import class_colours, fit, heatmap_overlay, mask_overlay

COLOURS = class_colours(default_classes())


def _preview(values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def test_heatmap_shows_the_image_where_it_is_zero_and_the_map_where_it_is_not():
    image = np.full((40, 80, 3), (10, 200, 30), np.uint8)
    left, right = np.zeros((2, 5, 10), np.uint8)
    left[:, :3] = 255
    right[:, 8:] = 255
    panel = heatmap_overlay(image, (_preview(left), _preview(right))).astype(int)
    grey = round((0.299 * 10 + 0.587 * 200 + 0.114 * 30) * 0.75 + 30)
    assert (abs(panel[:, 40:56] - grey) <= 1).all()
    top = np.array(matplotlib.colormaps["inferno"](1.0)[:3]) * 255
    expected = grey * 0.1 + top * 0.9
    for corner in (panel[20, 2], panel[20, 77]):
        assert (abs(corner - expected) <= 2).all()


def test_mask_has_its_classes_colours_with_a_white_contour():
    image = np.zeros((20, 40, 3), np.uint8)
    labels = np.zeros((20, 40), np.uint8)
    labels[:, 10:20] = 15
    labels[:, 20:25] = 255
    panel = mask_overlay(image, labels, COLOURS)
    person = np.rint(np.array(COLOURS[15]) * 0.66 + 12 * 0.34)
    np.testing.assert_array_equal(panel[10, 15], person)
    np.testing.assert_array_equal(panel[10, 22], 159)  # 235 * 0.66 + 12 * 0.34
    np.testing.assert_array_equal(panel[10, 35], [12, 12, 12])
    assert (panel[:, [9, 10, 19, 20]] == 255).all(), "both sides of the class's border"
    assert (panel[:, [24, 25]] != 255).all(), "ignore has no contour of its own"


def lab(rgb):
    """CIE 1976 L*a*b* of sRGB, white D65."""
    scaled = np.asarray(rgb, float) / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
         [0.0193339, 0.1191920, 0.9503041]]
    )  # fmt: skip
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_classes_are_told_from_each_other_and_from_a_grey_picture(shade):
    """As drawn, on dark and on bright pictures; with VOC's palette these were 8 to 10 and 0."""
    ids = np.arange(1, 21, dtype=np.uint8)
    labels = np.repeat(np.repeat(ids, 5)[None], 5, axis=0)
    panel = mask_overlay(np.full((5, 100, 3), shade, np.uint8), labels, COLOURS)
    drawn = lab(panel[2, 2::5])
    apart = np.linalg.norm(drawn[:, None] - drawn[None], axis=2)[np.triu_indices(20, 1)]
    assert apart.min() > 24
    greys = lab(np.repeat(np.arange(256)[:, None], 3, axis=1))
    assert np.linalg.norm(drawn[:, None] - greys[None], axis=2).min() > 30


def test_masks_are_not_blended_when_they_shrink():
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 20
    panel = mask_overlay(np.zeros((16, 16, 3), np.uint8), labels, COLOURS)
    contour = np.flatnonzero((panel == 255).all(axis=(0, 2)))
    np.testing.assert_array_equal(contour, [7, 8])  # ids in between would have borders too


def test_fit_keeps_orientation():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 40:] = 255
    small = fit(image, 10, 30)
    assert small.shape == (10, 30, 3)
    assert small[:, 24:].min() > 250
    assert small[:, :16].max() < 5
