import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.synthesis import Synthesiser, initial_noise
from ovamgen.errors import ConfigError, SampleError
from tests.golden.reference import OVAM_FILE, recorded, reference, tiny_sd


def synthesiser(decode_images=1, **changes):
    settings = SynthesisConfig(**{"steps": 2, "height": 64, "width": 64} | changes)
    return Synthesiser(tiny_sd(), settings, decode_images=decode_images)


@pytest.fixture
def pipe_copy(monkeypatch):
    """The golden pipeline, what is set on it set back afterwards."""
    pipe = tiny_sd().pipe
    for name in ("safety_checker", "feature_extractor", "vae", "scheduler"):
        monkeypatch.setattr(pipe, name, getattr(pipe, name))
    return pipe


@pytest.mark.parametrize("branch", ["unconditional", "conditional"])
def test_golden_image(branch):
    golden = reference(OVAM_FILE)["image"]
    drawn = recorded(branch).drawn
    np.testing.assert_allclose(drawn.pixels[0], golden, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(drawn.images[0], golden * 255, atol=0.51)


def test_initial_noise_is_a_function_of_the_seed_alone():
    seeds = [7, 2**63 - 1, 0, 12345]
    together = initial_noise(seeds, (4, 8, 16))
    assert together.dtype == torch.float32
    for index, seed in enumerate(seeds):
        assert torch.equal(together[index], initial_noise([seed], (4, 8, 16))[0])
    expected = torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(7))
    assert torch.equal(together[0], expected)
    assert not torch.equal(together[0], together[2])


# diffusers turns timesteps into numpy arrays in a way that numpy 2 frowns upon
old_numpy = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@old_numpy
@pytest.mark.parametrize("scheduler", ["PNDM", "EulerAncestralDiscreteScheduler"])
def test_a_sample_does_not_depend_on_its_batch(scheduler):
    """The same key in batch 1 and batch 4; also where the scheduler draws noise of its own."""
    drawer = synthesiser(scheduler=scheduler)
    prompts, seeds = ["a cat", "a dog", "a horse", "a bus"], [11, 12, 13, 14]
    together = drawer.draw(prompts, seeds)
    for index in (0, 3):
        alone = drawer.draw([prompts[index]], [seeds[index]])
        np.testing.assert_allclose(alone.pixels[0], together.pixels[index], atol=1e-4)
    assert np.abs(together.pixels[0] - together.pixels[1]).max() > 0.05


@old_numpy
@pytest.mark.parametrize("scheduler", ["PNDM", "UniPCMultistep", "DPMSolverSinglestep"])
def test_drawing_twice_gives_the_same(scheduler):
    """A scheduler remembers its last drawing; an interrupted one must not be felt either."""

    class Broken:
        calls = 0

        def update(self, layer, queries, size):
            self.calls += 1
            if self.calls > 15:
                raise RuntimeError

    drawer = synthesiser(scheduler=scheduler)
    first = drawer.draw(["a cat"], [5])
    with pytest.raises(RuntimeError):
        drawer.draw(["a dog"], [6], listeners=[(Broken(), "unconditional")])
    assert (drawer.draw(["a cat"], [5]).pixels == first.pixels).all()


@pytest.mark.parametrize(("height", "width"), [(64, 128), (72, 136)])
def test_images_have_the_size_asked_for(height, width):
    drawn = synthesiser(height=height, width=width, steps=1).draw(["a cat", "a dog"], [1, 2])
    assert drawn.images.shape == drawn.pixels.shape == (2, height, width, 3)
    assert drawn.errors == (None, None)


def test_the_negative_prompt_is_for_every_image():
    plain = synthesiser().draw(["a cat", "a cat"], [1, 1])
    negative = synthesiser(negative_prompt="a dog").draw(["a cat", "a cat"], [1, 1])
    np.testing.assert_allclose(negative.pixels[0], negative.pixels[1], atol=1e-5)
    assert np.abs(negative.pixels - plain.pixels).max() > 1e-3


def test_broken_latents_fail_one_sample():
    drawer = synthesiser()
    noise = initial_noise([1, 2, 3], drawer.latent_shape)
    noise[1, 0, 0, 0] = torch.nan
    drawn = drawer.draw(["a cat"] * 3, [1, 2, 3], latents=noise)
    assert drawn.errors[0] is drawn.errors[2] is None
    assert isinstance(drawn.errors[1], SampleError)
    assert "finite latents expected" in str(drawn.errors[1])
    assert not drawn.images[1].any()
    np.testing.assert_allclose(drawn.pixels[2], drawer.draw(["a cat"], [3]).pixels[0], atol=1e-4)


def test_broken_pixels_fail_a_sample(pipe_copy):
    drawer = synthesiser()
    # the pipeline is shared by all tests of the process
    bias = tiny_sd().pipe.vae.decoder.conv_out.bias.data
    before = bias[0].clone()
    bias[0] = torch.inf
    try:
        drawn = drawer.draw(["a cat"], [1])
    finally:
        bias[0] = before
    assert "finite pixels expected, got 4096 of 12288" in str(drawn.errors[0])


def tiny_checker(threshold):
    """A real safety checker with random weights that flags images above a similarity."""
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config=small | {"num_attention_heads": 2},
        vision_config=small | {"num_attention_heads": 2, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.special_care_embeds_weights.data.fill_(2.0)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return checker, CLIPImageProcessor(**sizes)


@pytest.mark.parametrize(
    ("threshold", "policy", "verdict"),
    [(-2.0, "flag", True), (-2.0, "drop", True), (2.0, "flag", False), (-2.0, "off", False)],
)
def test_the_safety_checker_gives_a_verdict_and_blackens_nothing(
    pipe_copy, threshold, policy, verdict
):
    plain = synthesiser().draw(["a cat", "a dog"], [1, 2])
    pipe_copy.safety_checker, pipe_copy.feature_extractor = tiny_checker(threshold)
    checked = synthesiser(safety=policy).draw(["a cat", "a dog"], [1, 2])
    assert checked.unsafe == (verdict, verdict)
    assert (checked.images == plain.images).all()
    assert checked.images.any()


def test_a_batch_is_checked_in_one_pass_with_the_verdicts_of_each_image_alone(pipe_copy):
    """Against diffusers' own check of one image; the broken one in the middle has no verdict."""
    checker, extractor = tiny_checker(0.0)
    pipe_copy.safety_checker, pipe_copy.feature_extractor = checker, extractor
    drawer, seeds = synthesiser(safety="off"), [1, 2, 3, 4, 5]
    noise = initial_noise(seeds, drawer.latent_shape)
    noise[2] = torch.nan
    decoded = drawer.draw(["a cat"] * 5, seeds, latents=noise).decoded
    with torch.no_grad():
        scores = [
            checker.visual_projection(checker.vision_model(pixels_of(pipe_copy, image))[1])
            for image in decoded[[0, 1, 3, 4]].split(1)
        ]
    cosines = torch.nn.functional.cosine_similarity(torch.cat(scores), torch.ones(1, 8))
    checker.concept_embeds_weights.data.fill_(float(cosines.median()) + 1e-3)
    alone = [
        pipe_copy.run_safety_checker(image.clone(), pipe_copy.device, image.dtype)[1][0]
        for image in decoded[[0, 1, 3, 4]].split(1)
    ]
    assert {True, False} == set(alone)
    calls = []
    checker.register_forward_pre_hook(lambda *given: calls.append(given))
    checked = synthesiser(safety="flag").draw(["a cat"] * 5, seeds, latents=noise)
    assert checked.unsafe == (*alone[:2], False, *alone[2:])
    assert len(calls) == 1


def pixels_of(pipe, image):
    picture = pipe.image_processor.postprocess(image, output_type="pil")
    return pipe.feature_extractor(picture, return_tensors="pt").pixel_values


@pytest.mark.parametrize("slices", [2, 8])
def test_slices_of_decoding_change_rounding_alone(slices):
    drawer = synthesiser()
    single = drawer.draw(["a cat"] * 3, [1, 2, 3])
    several = synthesiser(decode_images=slices)
    together = several.draw(["a cat"] * 3, [1, 2, 3])
    np.testing.assert_allclose(single.pixels, together.pixels, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pndmm", "did you mean 'PNDM'?"),
        ("Euler", "did you mean 'EulerAncestralDiscrete' or 'EulerDiscrete'?"),
        ("x", "known are DDIM, DDPM"),
    ],
)
def test_unknown_schedulers_name_the_nearest(name, hint):
    with pytest.raises(ConfigError, match=re.escape(hint)):
        synthesiser(scheduler=name)


def test_schedulers_that_share_noise_in_a_batch_are_refused():
    with pytest.raises(ConfigError, match="depend on its neighbours"):
        synthesiser(scheduler="DPMSolverSDE")


@old_numpy
def test_the_pipeline_keeps_its_own_scheduler():
    pipe = tiny_sd().pipe
    own, first = pipe.scheduler, synthesiser().draw(["a cat"], [1])
    synthesiser(scheduler="EulerAncestralDiscrete").draw(["a cat"], [1])
    assert pipe.scheduler is own
    assert (synthesiser().draw(["a cat"], [1]).pixels == first.pixels).all()


def test_the_scheduler_name_may_end_in_scheduler():
    short = synthesiser(scheduler="DDIM").draw(["a cat"], [1])
    long = synthesiser(scheduler="DDIMScheduler").draw(["a cat"], [1])
    other = synthesiser(scheduler="PNDM").draw(["a cat"], [1])
    assert (short.pixels == long.pixels).all()
    assert (short.pixels != other.pixels).any()


def test_sizes_fit_the_vae():
    loaded = tiny_sd()
    coarse = replace(loaded, info=replace(loaded.info, vae_scale_factor=16))
    with pytest.raises(ConfigError, match=r"multiple of 16 for .*, got 72: try 64"):
        Synthesiser(coarse, SynthesisConfig(height=72, width=64))
