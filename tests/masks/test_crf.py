import inspect

import numpy as np
import pytest
from pydensecrf.densecrf import DenseCRF2D

from ovamgen.config import CrfConfig
from ovamgen.errors import SampleError
from ovamgen.masks.crf import dense_crf, unary_energies

SETTINGS = CrfConfig()
HALF = CrfConfig(half_resolution=True)


def _scene(height, width, seed=0):
    """An image of a bright disc on a dark ground, and a noisy mask of that disc."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    disc = (y - height * 0.4) ** 2 + (x - width * 0.6) ** 2 < (min(height, width) * 0.3) ** 2
    image = np.where(disc[..., None], [200, 180, 40], [40, 60, 90]) + rng.normal(
        0, 6, (height, width, 3)
    )
    noisy = disc ^ (rng.random((height, width)) < 0.15)
    return image.clip(0, 255).astype(np.uint8), disc, noisy


def _one_hot(labels, count):
    return np.stack([(labels == index) for index in range(count)]).astype(np.float32)


def _exact_mean_field(image, probabilities, settings):
    """Mean field with the full Gaussian kernel matrices, normalised symmetrically, in float64."""
    labels, height, width = probabilities.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(np.float64)
    colours = image.reshape(-1, 3).astype(np.float64) / settings.bilateral_srgb
    place = np.stack([x, y], axis=1)
    bilateral = np.concatenate([place / settings.bilateral_sxy_px, colours], axis=1)

    def kernel(features):
        squared = ((features[:, None] - features[None]) ** 2).sum(-1)
        full = np.exp(-squared / 2)
        norm = 1 / np.sqrt(full.sum(1) + 1e-20)
        return full * norm[:, None] * norm[None]

    pairwise = settings.bilateral_weight * kernel(bilateral)
    pairwise += settings.gaussian_weight * kernel(place / settings.gaussian_sxy_px)
    energy = -np.log(np.clip(probabilities.astype(np.float64), settings.clip, 1 - settings.clip))
    energy = energy.reshape(labels, -1)

    def softmax(values):
        grown = np.exp(values - values.max(0))
        return grown / grown.sum(0)

    belief = softmax(-energy)
    for _ in range(settings.iterations):
        belief = softmax(-energy + belief @ pairwise)
    return belief.argmax(0).reshape(height, width)


@pytest.mark.parametrize("labels", [2, 3])
def test_agrees_with_exact_mean_field(labels):
    image, disc, noisy = _scene(20, 32)
    start = noisy.astype(int)
    if labels == 3:
        image[12:, :12] = [20, 200, 60]
        start[12:, :12] = 2
        start[3, 3:6] = 2
    exact = _exact_mean_field(image, _one_hot(start, labels), SETTINGS)
    ours = dense_crf(image, _one_hot(start, labels), SETTINGS)
    assert (ours != start).mean() > 0.05, "the scene must need refining"
    assert (ours == exact).mean() > 0.99
    if labels == 2:
        assert (ours == disc).mean() > 0.99


def test_non_square_image_keeps_its_orientation():
    """The trap of 1.6 b: pydensecrf takes (width, height)."""
    image, disc, noisy = _scene(24, 48)
    refined = dense_crf(image, _one_hot(noisy, 2), SETTINGS)
    assert refined.shape == (24, 48)
    assert (refined == disc).mean() > 0.99
    turned = dense_crf(
        np.ascontiguousarray(image.transpose(1, 0, 2)), _one_hot(noisy.T, 2), SETTINGS
    )
    assert (refined == turned.T).mean() > 0.995


@pytest.mark.parametrize("value", [0, 1])
def test_uniform_masks_are_returned_unchanged(value):
    """Methods 3, parity check 2."""
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    refined = dense_crf(image, _one_hot(np.full((40, 30), value), 2), SETTINGS)
    assert (refined == value).all()


def test_single_pixel_on_a_flat_image_is_removed():
    """Methods 3, parity check 3."""
    mask = np.zeros((32, 48), int)
    mask[10, 20] = 1
    image = np.full((32, 48, 3), 128, np.uint8)
    assert not dense_crf(image, _one_hot(mask, 2), SETTINGS).any()


def test_unary_energies_of_a_hard_mask():
    """Methods 3, parity check 4: exactly -log 0.99 and -log 0.01, without renormalisation."""
    mask = np.array([[0, 1, 1], [2, 0, 1]])
    energies = unary_energies(_one_hot(mask, 3), SETTINGS.clip)
    for label in range(3):
        expected = np.where(mask == label, 0.01005034, 4.60517019)
        np.testing.assert_allclose(energies[label], expected, rtol=1e-5)


def test_the_clip_matters():
    """Methods 3: 1e-5 in its place changes a good part of a noisy mask."""
    image, _, noisy = _scene(40, 50)
    usual = dense_crf(image, _one_hot(noisy, 2), CrfConfig(clip=1e-5))
    assert (usual != dense_crf(image, _one_hot(noisy, 2), SETTINGS)).mean() > 0.02


def test_weights_of_zero_leave_the_mask():
    image, _, noisy = _scene(16, 20)
    settings = CrfConfig(bilateral_weight=0, gaussian_weight=0)
    np.testing.assert_array_equal(dense_crf(image, _one_hot(noisy, 2), settings), noisy)


def test_read_only_arrays_are_accepted():
    """Arrays that come out of Ray's object store cannot be written to."""
    image, _, noisy = _scene(16, 20)
    probabilities = _one_hot(noisy, 2)
    image.flags.writeable = probabilities.flags.writeable = False
    assert dense_crf(image, probabilities, SETTINGS).shape == (16, 20)


def test_full_resolution_is_pydensecrf_with_the_numbers_as_they_are():
    image, _, noisy = _scene(24, 40)
    field = DenseCRF2D(40, 24, 2)
    field.setUnaryEnergy(unary_energies(_one_hot(noisy, 2), 0.01).reshape(2, -1))
    field.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    field.addPairwiseGaussian(sxy=3, compat=3)
    expected = np.asarray(field.inference(5)).argmax(axis=0).reshape(24, 40)
    np.testing.assert_array_equal(dense_crf(image, _one_hot(noisy, 2), SETTINGS), expected)


@pytest.mark.parametrize("labels", [2, 3])
def test_half_resolution_equals_exact_mean_field_of_the_halved_image(labels):
    image, _, noisy = _scene(40, 64)
    start = noisy.astype(int)
    if labels == 3:
        image[24:, :24] = [20, 200, 60]
        start[24:, :24] = 2
    blocks = image.reshape(20, 2, 32, 2, 3).astype(float).mean((1, 3))
    means = _one_hot(start, labels).reshape(labels, 20, 2, 32, 2).mean((2, 4))
    halved = SETTINGS.model_copy(update={"bilateral_sxy_px": 40.0, "gaussian_sxy_px": 1.5})
    exact = _exact_mean_field(np.rint(blocks).astype(np.uint8), means, halved)
    ours = dense_crf(image, _one_hot(start, labels), HALF)
    # where a label and its neighbours agree, resizing beliefs leaves them
    inner = np.ones((20, 32), bool)
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inner &= exact == np.roll(exact, step, axis)
    assert inner.mean() > 0.6
    assert (ours[::2, ::2] == exact)[inner].mean() > 0.99
    assert (ours == dense_crf(image, _one_hot(start, labels), SETTINGS)).mean() > 0.97


def test_half_resolution_of_odd_sizes_keeps_size_and_orientation():
    image, disc, noisy = _scene(47, 91)
    refined = dense_crf(image, _one_hot(noisy, 2), HALF)
    assert refined.shape == (47, 91)
    assert (refined == disc).mean() > 0.97


def test_sizes_must_agree():
    unchecked = inspect.unwrap(dense_crf)  # pytest's own shape checks would be first
    with pytest.raises(SampleError, match="16 x 20"):
        unchecked(np.zeros((20, 16, 3), np.uint8), np.zeros((2, 16, 20), np.float32), SETTINGS)
