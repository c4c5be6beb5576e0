import numpy as np
import pytest
import torch

from ovamgen.errors import ConfigError
from recipes.mini.autoencoder import build_autoencoder, decoder_parameters, factorise
from recipes.mini.decoder import to_pictures
from recipes.mini.latents import LatentSpace, fit_latent_space


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 0.004), pytest.param(torch.float16, 0.006, marks=pytest.mark.slow)],
)
def test_the_encoder_computes_the_linear_latents(images, space, dtype, tolerance):
    autoencoder = build_autoencoder(space, 0).to(dtype)
    with torch.no_grad():
        posterior = autoencoder.encode(to_pictures(images[:8]).to(dtype)).latent_dist
    expected = space.encode(images[:8])
    error = posterior.mean.float().numpy() - expected
    assert np.sqrt(np.square(error).mean()) < tolerance * np.sqrt(np.square(expected).mean())
    assert posterior.std.max() < 1e-3


@pytest.mark.parametrize(("channels", "features"), [(8, 32), (16, 48)])
def test_the_two_stages_make_up_the_basis(images, channels, features):
    space = fit_latent_space(images[:16], channels)
    coarse, fine, offset = (part.numpy() for part in factorise(space))
    assert coarse.shape == (channels, 2, 2, features)
    assert (fine.shape, offset.shape) == ((features, 2, 2, 12), (channels,))
    patch = np.random.default_rng(0).uniform(-1, 1, (8, 8, 3)).astype(np.float32)
    total = offset.copy()
    for row in range(8):
        for column in range(8):
            for color in range(3):
                cell = fine[:, row // 2 % 2, column // 2 % 2, row % 2 * 6 + column % 2 * 3 + color]
                total += coarse[:, row // 4, column // 4] @ cell * patch[row, column, color]
    expected = (patch.reshape(-1) - space.mean) @ (space.basis / space.scale)
    assert total == pytest.approx(expected, abs=1e-4)


def random_space(rng, channels):
    basis = np.linalg.qr(rng.normal(size=(192, channels)))[0].astype(np.float32)
    return LatentSpace(
        mean=rng.uniform(-0.2, 0.2, 192).astype(np.float32),
        basis=basis,
        scale=np.linspace(2, 1, channels).astype(np.float32),
    )


@pytest.mark.parametrize("channels", [8, 16, 32])
def test_any_basis_will_do(channels):
    rng = np.random.default_rng(1)
    space = random_space(rng, channels)
    images = rng.integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    with torch.no_grad():
        latents = build_autoencoder(space, 0).encode(to_pictures(images)).latent_dist.mean
    assert np.abs(latents.numpy() - space.encode(images)).max() < 0.02


@pytest.mark.parametrize("channels", [12, 40])
def test_numbers_of_channels_that_no_encoder_computes_are_refused(channels):
    with pytest.raises(ConfigError, match=f"must have 8, 16, 24 or 32 channels, got {channels}"):
        build_autoencoder(random_space(np.random.default_rng(0), channels), 0)


def test_training_the_decoder_cannot_touch_the_encoder(space):
    autoencoder = build_autoencoder(space, 0)
    trained = {id(parameter) for parameter in decoder_parameters(autoencoder)}
    frozen = [*autoencoder.encoder.parameters(), *autoencoder.quant_conv.parameters()]
    assert not trained & {id(parameter) for parameter in frozen}
    assert len(trained) + len(frozen) == len(list(autoencoder.parameters()))
