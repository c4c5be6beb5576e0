import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from ovamgen.errors import ConfigError, OvamgenError
from recipes.mini.autoencoder import build_autoencoder
from recipes.mini.card import write_card
from recipes.mini.decoder import to_pictures
from recipes.mini.export import MAX_FILE_BYTES, check_sizes, export_pipeline
from recipes.mini.journal import append_row
from recipes.mini.latents import LatentSpace
from recipes.mini.model import build_networks
from recipes.mini.runs import keep_weights, start_from
from recipes.mini.settings import TrainSettings
from recipes.mini.state import load_state, new_state
from tests.recipes.conftest import SMALL


@pytest.fixture(scope="module")
def folder(space, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    networks = build_networks(SMALL, tokenizer, 0)
    export_pipeline(folder, networks, build_autoencoder(space, 0), tokenizer, "# card\n")
    return folder


def test_anyone_can_load_and_run_it(folder):
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline.scheduler).__name__ == "PNDMScheduler"
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.vae_scale_factor == 8
    generator = torch.Generator().manual_seed(0)
    result = pipeline(
        "a photograph of a cat", num_inference_steps=2, generator=generator, output_type="np"
    )
    assert result.images.shape == (1, 128, 128, 3)
    assert np.isfinite(result.images).all()


def test_weights_are_half_precision_and_the_encoder_still_exact(folder, images, space):
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, dtype=torch.float32
    )
    with torch.no_grad():
        latents = pipeline.vae.encode(to_pictures(images[:2])).latent_dist.mean.numpy()
    assert np.abs(latents - space.encode(images[:2])).max() < 0.05
    assert {path.suffix for path in folder.rglob("*model*") if path.is_file()} <= {
        ".safetensors",
        ".json",
    }
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    parameters = sum(p.numel() for p in pipeline.unet.parameters())
    assert unet.stat().st_size == pytest.approx(2 * parameters, rel=0.05)


def test_card_and_credits_are_beside_the_weights(folder):
    assert (folder / "README.md").read_text() == "# card\n"
    credits = (folder / "CREDITS.md").read_text()
    for word in ("Google", "Microsoft", "Twitter", "CC BY 4.0", "Apache", "MIT"):
        assert word in credits


def test_a_folder_that_holds_something_is_refused(folder, space, tokenizer):
    networks = build_networks(SMALL, tokenizer, 0)
    with pytest.raises(ConfigError, match="must be new or empty"):
        export_pipeline(folder, networks, build_autoencoder(space, 0), tokenizer, "")


def test_files_that_the_package_cannot_carry_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(MAX_FILE_BYTES - 1))
    with pytest.raises(OvamgenError, match="may have 25000000 bytes"):
        check_sizes(tmp_path)
    (tmp_path / "b").unlink()
    assert check_sizes(tmp_path) == MAX_FILE_BYTES - 1
    (tmp_path / "a").write_bytes(bytes(MAX_FILE_BYTES + 1))
    with pytest.raises(OvamgenError, match="a model file may have"):
        check_sizes(tmp_path)


def test_the_card_has_the_last_figures_of_the_logs(tmp_path):
    for step, loss in ((50, 0.5), (100, 0.25)):
        row = {"step": step, "samples": 32 * step, "loss": loss}
        append_row(tmp_path / "run" / "train.csv", row)
    append_row(tmp_path / "decoder" / "probes.csv", {"step": 700, "psnr_db": "27.125"})
    card = write_card(tmp_path / "run", tmp_path / "decoder", 16)
    assert "latents of 16 channels on a 16 x 16 grid" in " ".join(card.split())
    assert "| samples | 3200 |" in card
    assert "| loss (v, all timesteps) | 0.25 |" in card
    assert "| held-out PSNR of the decoder, dB | 27.125 |" in card
    assert "not measured" in card
    assert "Apache-2.0, CC-BY-4.0, MIT" in card


def test_a_run_can_start_from_an_exported_model(folder, cache, tokenizer, tmp_path):
    start_from(folder, tmp_path / "run", cache, tokenizer, SMALL)
    state = load_state(tmp_path / "run", tokenizer, torch.device("cpu"))
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(state.networks.unet.conv_in.weight, weights["conv_in.weight"].float())
    assert (state.step, state.samples) == (0, 0)
    for average, parameter in zip(state.ema, state.networks.parameters(), strict=True):
        assert torch.equal(average, parameter)
    with pytest.raises(ConfigError, match="without --start-from"):
        start_from(folder, tmp_path / "run", cache, tokenizer, SMALL)
    with pytest.raises(ConfigError, match="must hold this recipe's unet"):
        start_from(tmp_path, tmp_path / "other", cache, tokenizer)


def test_kept_weights_go_on_with_their_steps(cache, space, tokenizer, tmp_path):
    cpu = torch.device("cpu")
    state = new_state(TrainSettings(), SMALL, tokenizer, cache.digest, cpu)
    state.step, state.samples = 30, 960
    for average in state.ema:
        average.add_(0.25)
    keep_weights(state, space, tmp_path / "kept")
    start_from(tmp_path / "kept", tmp_path / "run", cache, tokenizer, SMALL)
    other = load_state(tmp_path / "run", tokenizer, cpu)
    assert (other.step, other.samples) == (30, 960)
    for parameter, average in zip(other.networks.parameters(), state.ema, strict=True):
        assert torch.equal(parameter, average.half().float())
    kept = LatentSpace.load(tmp_path / "kept" / "latent_space.safetensors")
    assert np.array_equal(kept.basis, space.basis)
    with pytest.raises(ConfigError, match="must be new or empty"):
        keep_weights(state, space, tmp_path / "kept")
