import io

import matplotlib
import numpy as np
from PIL import Image

from ovamgen.report.panels import fit, heatmap_overlay, mask_overlay


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


def test_mask_has_the_vocs_colours_with_a_white_contour():
    image = np.zeros((20, 40, 3), np.uint8)
    labels = np.zeros((20, 40), np.uint8)
    labels[:, 10:20] = 15
    labels[:, 20:25] = 255
    panel = mask_overlay(image, labels)
    person = np.rint(np.array([192, 128, 128]) * 0.72 + 12 * 0.28)
    np.testing.assert_array_equal(panel[10, 15], person)
    np.testing.assert_array_equal(panel[10, 22], 173)  # 235 * 0.72 + 12 * 0.28
    np.testing.assert_array_equal(panel[10, 35], [12, 12, 12])
    assert (panel[:, [9, 10, 19, 20]] == 255).all(), "both sides of the class's border"
    assert (panel[:, [24, 25]] != 255).all(), "ignore has no contour of its own"


def test_masks_are_not_blended_when_they_shrink():
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 20
    panel = mask_overlay(np.zeros((16, 16, 3), np.uint8), labels)
    contour = np.flatnonzero((panel == 255).all(axis=(0, 2)))
    np.testing.assert_array_equal(contour, [7, 8])  # ids in between would have borders too


def test_fit_keeps_orientation():
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 40:] = 255
    small = fit(image, 10, 30)
    assert small.shape == (10, 30, 3)
    assert small[:, 24:].min() > 250
    assert small[:, :16].max() < 5
