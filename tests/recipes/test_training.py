from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from ovamgen.errors import ConfigError
from recipes.mini import model
from recipes.mini.checkpoints import CHECKPOINT
from recipes.mini.model import ModelShape, alphas_cumprod
from recipes.mini.runs import branch_off, open_run
from recipes.mini.settings import TrainSettings
from recipes.mini.state import load_state, new_state
from recipes.mini.training import Trainer, positions, prediction_errors, timesteps_at
from tests.recipes.conftest import SMALL

CPU = torch.device("cpu")
SETTINGS = TrainSettings(batch_size=4, warmup_steps=5, learning_rate=1e-3)


def start(cache, tokenizer, settings=SETTINGS):
    return new_state(settings, SMALL, tokenizer, cache.digest, CPU)


def take(state, cache, tokenizer, steps):
    trainer = Trainer(state, cache, tokenizer, CPU)
    return [float(trainer.take_step()[0]) for _ in range(steps)]


def tensors(state):
    parts = state.optimizer.state_dict()
    moments = [entry for part in parts for entry in part["state"].values()]
    return [
        *state.networks.parameters(),
        *state.ema,
        *(value for entry in moments for value in entry.values()),
    ]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_resumed_run_is_the_run_that_never_stopped(cache, tokenizer, tmp_path, optimizer):
    asked = replace(SETTINGS, optimizer=optimizer)
    whole = start(cache, tokenizer, asked)
    losses = take(whole, cache, tokenizer, 20)
    first = start(cache, tokenizer, asked)
    begun = take(first, cache, tokenizer, 10)
    first.save(tmp_path)
    torch.manual_seed(12345)
    second = load_state(tmp_path, tokenizer, CPU)
    assert begun + take(second, cache, tokenizer, 10) == losses
    assert (second.step, second.samples) == (whole.step, whole.samples) == (20, 80)
    assert second.settings == whole.settings
    for one, other in zip(tensors(whole), tensors(second), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("bfloat16", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_training_lowers_the_loss(cache, tokenizer, monkeypatch, bfloat16):
    """In the arithmetic of GPUs too, which this machine may lack the instructions for."""
    monkeypatch.setattr(model, "cpu_computes_bfloat16", lambda: bfloat16)
    settings = replace(SETTINGS, learning_rate=5e-3)
    losses = take(start(cache, tokenizer, settings), cache, tokenizer, 24)
    assert np.mean(losses[-6:]) < 0.93 * np.mean(losses[:6])


@pytest.mark.parametrize("slope", [0.0, 0.4, 0.9])
def test_timesteps_slope_as_their_density_says(slope):
    shares = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    counts = np.bincount(timesteps_at(shares, slope).numpy(), minlength=1000)
    density = 1 + slope * (2 * (np.arange(1000) + 0.5) / 1000 - 1)
    assert counts == pytest.approx(100 * density, abs=2)


def test_a_slope_changes_the_step(cache, tokenizer):
    sloping = start(cache, tokenizer)
    sloping.settings = replace(SETTINGS, timestep_slope=0.6)
    assert take(sloping, cache, tokenizer, 1) != take(start(cache, tokenizer), cache, tokenizer, 1)


def test_a_decay_ends_at_a_rate_of_zero():
    decaying = replace(SETTINGS, decay_from=10, decay_steps=40)
    rates = [decaying.rate(step) for step in range(10, 51)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == SETTINGS.learning_rate
    assert rates[-1] == 0


def test_networks_have_the_channels_of_the_latents(cache, tokenizer, tmp_path):
    both = np.concatenate([cache.latents, cache.latents], axis=1)
    state = open_run(tmp_path, replace(cache, latents=both), tokenizer, CPU, shape=SMALL)
    assert state.networks.unet.config.in_channels == both.shape[1]
    assert np.isfinite(take(state, replace(cache, latents=both), tokenizer, 1)).all()


def test_a_run_keeps_its_widths(cache, tokenizer, tmp_path):
    start(cache, tokenizer).save(tmp_path)
    assert open_run(tmp_path, cache, tokenizer, CPU, shape=SMALL).shape == SMALL
    with pytest.raises(ConfigError, match=r"has widths \(16, 32, 32\), got \(64, 128, 160\)"):
        open_run(tmp_path, cache, tokenizer, CPU, shape=ModelShape())
    new = open_run(tmp_path / "new", cache, tokenizer, CPU, shape=SMALL)
    assert new.networks.unet.config.block_out_channels == (16, 32, 32)


def test_a_crash_while_writing_leaves_the_old_checkpoint(cache, tokenizer, tmp_path, monkeypatch):
    state = start(cache, tokenizer)
    state.save(tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    state.step = 7

    def interrupted(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        state.save(tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert load_state(tmp_path, tokenizer, CPU).step == 0


def test_other_settings_or_data_need_the_word(cache, tokenizer, tmp_path):
    start(cache, tokenizer).save(tmp_path)
    assert open_run(tmp_path, cache, tokenizer, CPU).settings == SETTINGS
    larger = replace(SETTINGS, batch_size=64)
    with pytest.raises(ConfigError, match=r"batch_size 4 -> 64.*--change"):
        open_run(tmp_path, cache, tokenizer, CPU, larger)
    assert open_run(tmp_path, cache, tokenizer, CPU, larger, change=True).settings == larger
    other = replace(cache, digest="f" * 64)
    with pytest.raises(ConfigError, match=r"data .* -> ffffffffffff"):
        open_run(tmp_path, other, tokenizer, CPU)


def test_a_branch_decays_and_leaves_the_trunk_alone(cache, tokenizer, tmp_path):
    trunk = start(cache, tokenizer)
    take(trunk, cache, tokenizer, 3)
    trunk.save(tmp_path / "trunk")
    before = (tmp_path / "trunk" / CHECKPOINT).read_bytes()
    branch_off(tmp_path / "trunk", tmp_path / "branch", 40, tokenizer)
    branch = load_state(tmp_path / "branch", tokenizer, CPU)
    assert (branch.settings.decay_from, branch.settings.last_step()) == (3, 43)
    assert torch.equal(branch.networks.unet.conv_in.weight, trunk.networks.unet.conv_in.weight)
    assert (tmp_path / "trunk" / CHECKPOINT).read_bytes() == before
    with pytest.raises(ConfigError, match="must be a new folder"):
        branch_off(tmp_path / "trunk", tmp_path / "branch", 40, tokenizer)


def test_a_run_that_never_began_cannot_be_loaded(tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="train first"):
        load_state(tmp_path, tokenizer, CPU)


def test_the_target_is_the_velocity_of_diffusers():
    """A network that answers with diffusers' velocity makes no error."""
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 6, 8, 16, 16, generator=generator)
    timesteps = torch.tensor([0, 100, 400, 700, 900, 999])
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")

    def unet(noisy, _timesteps, _context):
        assert torch.allclose(noisy, scheduler.add_noise(latents, noise, timesteps), atol=1e-5)
        return SimpleNamespace(sample=scheduler.get_velocity(latents, noise, timesteps))

    def text_encoder(_tokens):
        return SimpleNamespace(last_hidden_state=None)

    tokens = torch.zeros(6, 20, dtype=torch.long)
    alphas = alphas_cumprod(CPU)
    errors = prediction_errors(unet, text_encoder, latents, tokens, timesteps, noise, alphas)
    assert errors.shape == (6,)
    assert errors.max() < 1e-8


@settings(deadline=None, max_examples=50)
@given(
    length=st.integers(1, 50),
    start=st.integers(0, 300),
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
)
def test_positions_do_not_depend_on_how_the_stream_is_cut(length, start, counts):
    whole = positions(length, start, sum(counts), seed=9)
    parts, place = [], start
    for count in counts:
        parts.append(positions(length, place, count, seed=9))
        place += count
    assert np.array_equal(np.concatenate(parts), whole)


def test_every_epoch_is_another_order_of_all_samples():
    epochs = positions(20, 0, 60, seed=1).reshape(3, 20)
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
