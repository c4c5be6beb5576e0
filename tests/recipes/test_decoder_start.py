import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from ovamgen.errors import ConfigError
from recipes.mini.autoencoder import build_autoencoder
from recipes.mini.decoder import decode, open_decoder
from recipes.mini.decoder_start import start_decoder_from
from recipes.mini.latents import fit_latent_space
from recipes.mini.settings import TrainSettings
from recipes.mini.state import new_state
from recipes.mini.steps import keep_run
from recipes.mini.workspace import Workspace
from tests.recipes.conftest import SMALL

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(space, tmp_path_factory):
    """Folder of a model whose autoencoder lets every channel be heard in the end."""
    folder = tmp_path_factory.mktemp("exported")
    autoencoder = build_autoencoder(space, 3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in autoencoder.post_quant_conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    autoencoder.save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def old(model):
    return AutoencoderKL.from_pretrained(model, subfolder="vae")


def entered(autoencoder, latents):
    """What the first layer of the decoder makes of latents."""
    with torch.no_grad():
        inner = autoencoder.post_quant_conv(torch.from_numpy(latents))
        return autoencoder.decoder.conv_in(inner).numpy()


def test_of_the_same_latents_it_draws_the_same(model, old, space, images, tmp_path):
    start_decoder_from(model, tmp_path, space)
    state = open_decoder(tmp_path, space, CPU)
    latents = space.encode(images[:4])
    found = decode(state.autoencoder, latents, CPU).astype(int)
    assert np.abs(found - decode(old, latents, CPU)).mean() < 1
    # the encoder is written down from the latent space
    fresh = build_autoencoder(space, 0).encoder.state_dict()
    own = state.autoencoder.encoder.state_dict()
    assert all(torch.equal(own[key], value) for key, value in fresh.items())
    with pytest.raises(ConfigError, match="without --start-from"):
        start_decoder_from(model, tmp_path, space)


def test_other_latents_enter_as_the_old_ones_did(model, old, space, images, tmp_path):
    wider = fit_latent_space(images[:16], 24)
    start_decoder_from(model, tmp_path, wider)
    state = open_decoder(tmp_path, wider, CPU)
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(2, 24, 16, 16)).astype(np.float32)
    patches = (latents.transpose(0, 2, 3, 1) * wider.scale) @ wider.basis.T + wider.mean
    before = (patches - space.mean) @ (space.basis / space.scale)
    expected = entered(old, np.ascontiguousarray(before.transpose(0, 3, 1, 2), np.float32))
    difference = entered(state.autoencoder, latents) - expected
    assert np.square(difference).mean() < 1e-3 * np.square(expected).mean()
    # what fits is taken, to the averages too; the last layers are of another width
    mine, theirs = state.autoencoder.decoder, old.decoder
    for own, other in ((mine.mid_block, theirs.mid_block), (mine.conv_out, theirs.conv_out)):
        assert all(
            torch.equal(one, two)
            for one, two in zip(own.parameters(), other.parameters(), strict=True)
        )
    assert mine.up_blocks[3].resnets[0].conv1.in_channels == 48
    averages = zip(state.ema, mine.parameters(), strict=False)
    assert all(torch.equal(average, value) for average, value in averages)


def test_latents_with_fewer_channels_are_refused(images, space, tmp_path):
    wider = build_autoencoder(fit_latent_space(images[:16], 24), 0)
    wider.save_pretrained(tmp_path / "model" / "vae")
    with pytest.raises(ConfigError, match=r"at most 16 channels.*got 24"):
        start_decoder_from(tmp_path / "model", tmp_path / "run", space)


def test_a_folder_without_a_model_is_refused(space, tmp_path):
    with pytest.raises(ConfigError, match="must hold this recipe's autoencoder"):
        start_decoder_from(tmp_path, tmp_path / "run", space)


def test_a_kept_decoder_goes_on_elsewhere(cache, space, tokenizer, images, tmp_path):
    work = Workspace(tmp_path / "work")
    space.save(work.latent_space)
    new_state(TrainSettings(), SMALL, tokenizer, cache.digest, CPU).save(work.run("core"))
    keep_run(work, "core", tmp_path / "without")
    assert not (tmp_path / "without" / "vae").exists()
    decoder = open_decoder(work.decoder, space, CPU)
    for average in decoder.ema:
        average.mul_(1.5)
    decoder.save(work.decoder)
    keep_run(work, "core", tmp_path / "kept")
    start_decoder_from(tmp_path / "kept", tmp_path / "run", space)
    again = open_decoder(tmp_path / "run", space, CPU).autoencoder
    latents = space.encode(images[:2])
    with decoder.averaged() as autoencoder:
        expected = decode(autoencoder, latents, CPU).astype(int)
    assert np.abs(decode(again, latents, CPU) - expected).mean() < 1
    assert np.abs(decode(decoder.autoencoder, latents, CPU) - expected).mean() > 2
