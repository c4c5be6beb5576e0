import numpy as np
import pytest

from ovamgen.errors import ConfigError
from recipes.mini.latents import CHANNELS, LatentSpace, fit_latent_space, psnr


def test_the_basis_is_that_of_the_largest_singular_values(images):
    images = images[:8]
    space = fit_latent_space(images)
    x = images.astype(np.float64) / 127.5 - 1
    patches = np.concatenate(
        [
            x[:, r : r + 8, c : c + 8].reshape(len(x), -1)
            for r in range(0, 128, 8)
            for c in range(0, 128, 8)
        ]
    )
    values, axes = np.linalg.svd(patches - patches.mean(0), full_matrices=False)[1:]
    agreement = np.abs((axes[:CHANNELS] * space.basis.T).sum(1))
    assert agreement == pytest.approx(np.ones(CHANNELS), abs=1e-3)
    deviations = values[:CHANNELS] / np.sqrt(len(patches) - 1)
    assert space.scale**2 == pytest.approx(deviations * deviations.mean(), rel=1e-3)


def test_latents_have_unit_variance_on_average(images, space):
    latents = space.encode(images)
    assert latents.shape == (48, CHANNELS, 16, 16)
    assert latents.var((0, 2, 3)).mean() == pytest.approx(1, rel=1e-3)
    assert (np.diff(latents.std((0, 2, 3))) < 0).all()


def test_what_the_basis_spans_comes_back(space):
    latents = np.random.default_rng(0).normal(0, 0.2, (3, CHANNELS, 16, 16)).astype(np.float32)
    images = space.decode(latents)
    inside = (images > 0).all() and (images < 255).all()
    assert inside
    # rounding to 8 bits has a deviation of 1 / sqrt(12) levels
    assert np.abs(space.encode(images) - latents).max() < 0.1
    assert psnr(images, space.decode(space.encode(images))) > 50


def test_a_patch_goes_where_it_was(images, space):
    moved = np.roll(images, (8, 16), axis=(1, 2))
    expected = np.roll(space.encode(images), (1, 2), axis=(2, 3))
    assert np.allclose(space.encode(moved), expected, atol=1e-5)


def test_fitting_twice_gives_the_same(images, space):
    again = fit_latent_space(images)
    assert np.array_equal(again.basis, space.basis)
    assert (again.basis[np.abs(again.basis).argmax(0), range(CHANNELS)] > 0).all()


def test_saved_and_loaded(space, tmp_path):
    space.save(tmp_path / "space.safetensors")
    again = LatentSpace.load(tmp_path / "space.safetensors")
    for name in ("mean", "basis", "scale"):
        assert np.array_equal(getattr(again, name), getattr(space, name))
    with pytest.raises(ConfigError, match="'data' writes it to a work"):
        LatentSpace.load(tmp_path / "none.safetensors")


def test_psnr_by_hand():
    black = np.zeros((1, 128, 128, 3), np.uint8)
    assert psnr(black, black) == float("inf")
    # an error of 25.5 levels everywhere: 20 log10(10)
    other = np.full_like(black, 25)
    other[:, ::2] = 26
    assert psnr(black, other) == pytest.approx(20, abs=0.01)
