import csv

import numpy as np
import pytest
import torch

from recipes.mini.autoencoder import decoder_parameters
from recipes.mini.decoder import (
    DecoderTrainer,
    PictureStream,
    decode,
    open_decoder,
    reconstruction_loss,
    train_decoder_in,
)
from recipes.mini.latents import psnr
from recipes.mini.settings import DecoderSettings

CPU = torch.device("cpu")
SETTINGS = DecoderSettings(batch_size=2, warmup_steps=2)


def test_the_loss_by_hand():
    pictures = torch.zeros(1, 1, 2, 2)
    decoded = torch.tensor([[[[1.0, -1.0], [0.0, 2.0]]]])
    # pixels (1 + 1 + 0 + 2) / 4, down (1 + 3) / 2, right (2 + 2) / 2
    assert float(reconstruction_loss(decoded, pictures)) == 1 + 2 + 2
    assert float(reconstruction_loss(pictures, pictures)) == 0


def test_pictures_go_on_where_they_stopped(composer):
    stream = PictureStream(composer, 40)
    assert np.array_equal(stream[2], composer.compose(42).image)


@pytest.mark.slow  # test_training.py resumes one
def test_a_resumed_decoder_is_the_one_that_never_stopped(composer, space, tmp_path):
    def take(state, steps):
        trainer = DecoderTrainer(state, composer, space, CPU)
        for _ in range(steps):
            trainer.take_step()
        return state

    whole = take(open_decoder(tmp_path, space, CPU, SETTINGS), 4)
    take(open_decoder(tmp_path, space, CPU, SETTINGS), 2).save(tmp_path)
    resumed = take(open_decoder(tmp_path, space, CPU), 2)
    assert (resumed.step, resumed.samples, resumed.settings) == (4, 8, SETTINGS)
    pairs = zip(
        [*decoder_parameters(whole.autoencoder), *whole.ema],
        [*decoder_parameters(resumed.autoencoder), *resumed.ema],
        strict=True,
    )
    assert all(torch.equal(one, other) for one, other in pairs)
    encoder = whole.autoencoder.encoder.state_dict()
    fresh = open_decoder(tmp_path / "new", space, CPU).autoencoder.encoder.state_dict()
    assert all(torch.equal(encoder[name], fresh[name]) for name in fresh)


def test_training_writes_logs_and_learns(composer, space, images, tmp_path):
    state = open_decoder(tmp_path, space, CPU, DecoderSettings(batch_size=2, warmup_steps=2))
    untrained = psnr(images[:4], decode(state.autoencoder, space.encode(images[:4]), CPU))
    train_decoder_in(
        tmp_path,
        state,
        composer,
        space,
        CPU,
        images[:4],
        until_step=8,
        probe_every=4,
        show=lambda _: None,
    )
    with (tmp_path / "probes.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["psnr_db"]) > untrained + 0.5
    assert (tmp_path / "checkpoint.pt").exists()
    assert (tmp_path / "reconstructions.png").exists()
    assert open_decoder(tmp_path, space, CPU).step == 8


@pytest.mark.parametrize("field", ["step", "samples"])
def test_a_new_decoder_starts_at_zero(space, tmp_path, field):
    assert getattr(open_decoder(tmp_path, space, CPU), field) == 0
