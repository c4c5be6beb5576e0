import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from ovamgen.attribution.stored import StoredQueries
from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.recreate import Recreator, check_strength
from ovamgen.diffusion.synthesis import initial_noise
from ovamgen.errors import ConfigError, SampleError
from tests.golden.reference import tiny_sd

SETTINGS = SynthesisConfig(steps=4, height=64, width=64)


@pytest.fixture(scope="module")
def loaded():
    return tiny_sd()


def picture(height=64, width=64):
    rows, columns = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = rows * 255 // height
    image[..., 1] = columns * 255 // width
    return image


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_it_is_diffusers_image_to_image(loaded, strength):
    """Bit for bit, where diffusers is given the same latents; its noise is the generator's."""
    ours = Recreator(loaded, SETTINGS, strength).draw(picture(), "a cat", 7)

    pipe = loaded.pipe
    pixels = torch.from_numpy(picture().astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        latents = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    theirs = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    image = theirs(
        prompt=["a cat"],
        image=latents,
        strength=strength,
        num_inference_steps=4,
        generator=[torch.Generator().manual_seed(7)],
        output_type="np",
    ).images[0]
    assert np.abs(ours.image - image * 255).max() <= 0.5 + 1e-3
    noise = initial_noise([7], tuple(latents.shape[1:]))
    assert torch.equal(noise[0], torch.randn(latents.shape[1:], generator=_seeded(7)))


def _seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_recording_changes_no_bit_and_sees_every_call(loaded):
    recreator = Recreator(loaded, SETTINGS, 0.5)
    silent = recreator.draw(picture(), "a cat", 3)
    both = StoredQueries(), StoredQueries()
    listeners = list(zip(both, ("unconditional", "conditional"), strict=True))
    heard = recreator.draw(picture(), "a cat", 3, listeners)
    assert np.array_equal(silent.image, heard.image)
    # 4 steps of PNDM are 5 calls; half of the steps leaves out the first two of them
    assert [len(sink.calls) for sink in both] == [3 * 15, 3 * 15]
    assert not torch.equal(both[0].calls[-1].queries, both[1].calls[-1].queries)
    assert len(loaded.pipe.unet._forward_pre_hooks) == 0


def test_seed_and_strength_matter_and_nothing_is_kept(loaded):
    recreator = Recreator(loaded, SETTINGS, 0.5)
    first = recreator.draw(picture(), "a cat", 3)
    assert not np.array_equal(recreator.draw(picture(), "a cat", 4).image, first.image)
    assert np.array_equal(recreator.draw(picture(), "a cat", 3).image, first.image)
    assert first.difference > 0


def test_sizes(loaded):
    """The shorter side becomes the model's own 512 pixels, the other one follows."""
    recreator = Recreator(loaded, SynthesisConfig(steps=4), 0.5)
    assert recreator.size_for(375, 500) == (512, 680)
    assert recreator.size_for(500, 375) == (680, 512)
    assert recreator.size_for(64, 64) == (512, 512)
    fixed = Recreator(loaded, SynthesisConfig(steps=1, height=64, width=128), 1.0)
    assert fixed.size_for(375, 500) == (64, 128)
    assert fixed.draw(picture(50, 100), "a cat", 1).image.shape == (64, 128, 3)


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1, float("nan")])
def test_strengths_that_are_no_share(strength):
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        check_strength(strength, 30)


def test_a_strength_without_a_step():
    with pytest.raises(ConfigError, match=r"leaves no step of 4 to go: at least 0.25"):
        check_strength(0.2, 4)


def test_broken_numbers_are_an_error_of_the_sample(loaded, monkeypatch):
    recreator = Recreator(loaded, SETTINGS, 0.5)
    broken = torch.full((1, 3, 64, 64), float("nan"))
    monkeypatch.setattr(loaded.pipe.vae, "decode", lambda *_, **__: (broken,))
    with pytest.raises(SampleError, match="finite pixels"):
        recreator.draw(picture(), "a cat", 1)
