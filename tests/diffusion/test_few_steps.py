"""Models that were distilled to draw in a few steps: their schedulers, and drawing unguided."""

import pytest
import torch

from ovamgen.attribution.ovam import PairMaps
from ovamgen.config import SynthesisConfig, build_config
from ovamgen.diffusion.recorder import cross_attention_layers
from ovamgen.diffusion.schedulers import scheduler_class
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.diffusion.text import encode_text
from ovamgen.errors import ConfigError, MethodError
from tests.diffusion.small import small_model

HEADS_XL = 10 * 2 + 15 * 4


def settings(**changes):
    return SynthesisConfig(**{"height": 64, "width": 64, "guidance": 0.0, **changes})


def recorded(loaded, asked, branch="conditional", prompts=("a cat",), seeds=(1,)):
    pair = encode_text(loaded.pipe, "a cat").rows[None, [0, 2]]
    sink = PairMaps(cross_attention_layers(loaded.pipe.unet), pair)
    drawn = Synthesiser(loaded, asked).draw(prompts, seeds, listeners=[(sink, branch)])
    return drawn, sink.sums


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("scheduler", "steps"), [("LCM", 4), ("TCD", 2), ("EulerAncestralDiscrete", 1)]
)
def test_maps_are_summed_over_the_calls_there_are(scheduler, steps):
    loaded = small_model("sdxl")
    drawn, sums = recorded(loaded, settings(scheduler=scheduler, steps=steps))
    assert drawn.errors == (None,)
    assert sums.maximum == steps * HEADS_XL
    total = sums.total()
    assert (total > 0).all()
    assert (total < sums.maximum).all()


def test_lcm_draws_each_sample_from_its_own_noise():
    """LCM adds noise at every step: that of a sample's seed, whatever its neighbours."""
    loaded, asked = small_model("sdxl"), settings(scheduler="LCM", steps=3)
    together, _ = recorded(loaded, asked, prompts=("a dog", "a cat"), seeds=(5, 1))
    alone, _ = recorded(loaded, asked)
    other, _ = recorded(loaded, asked, seeds=(2,))
    assert abs(together.pixels[1] - alone.pixels[0]).max() < 1e-4
    assert abs(other.pixels[0] - alone.pixels[0]).max() > 0.1


def test_lcm_has_no_more_steps_than_it_was_distilled_from():
    with pytest.raises(ConfigError, match="'LCM' cannot draw in 51 steps"):
        Synthesiser(small_model("sdxl"), settings(scheduler="LCM", steps=51))


def test_turbo_s_one_step_starts_from_noise():
    """The spacing is the model's own, whatever scheduler is asked for."""
    own = small_model("sdxl").pipe.scheduler.config
    scheduler = scheduler_class("DDIM").from_config(own, timestep_spacing="trailing")
    scheduler = scheduler_class("LCM").from_config(scheduler.config)
    assert scheduler.config.timestep_spacing == "trailing"
    again = scheduler_class("DDIM").from_config(scheduler.config)
    again.set_timesteps(1)
    assert again.timesteps.tolist() == [999]


def test_without_guidance_the_conditional_half_is_chosen():
    unguided = {"synthesis": {"guidance": 1.0}}
    assert build_config(unguided).attribution.branch == "conditional"
    assert build_config({}).attribution.branch == "unconditional"
    asked = unguided | {"attribution": {"branch": "unconditional"}}
    with pytest.raises(ConfigError, match=r"unconditional needs synthesis\.guidance above 1"):
        build_config(asked)


@pytest.mark.slow
def test_a_unet_that_takes_the_guidance_as_a_number_has_one_half():
    """As LCM's own UNets: diffusers gives them the conditional half, at any guidance."""
    from dataclasses import replace

    from ovamgen.diffusion.random_weights import build_pipeline
    from tests.diffusion.small import FAMILIES

    architecture = FAMILIES["sd15"]
    distilled = replace(architecture, unet=architecture.unet | {"time_cond_proj_dim": 16})
    pipe = build_pipeline(distilled, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    loaded = replace(small_model("sd15"), pipe=pipe)
    asked = settings(guidance=8.0, scheduler="LCM", steps=2)
    assert not Synthesiser(loaded, asked).guided
    _, sums = recorded(loaded, asked)
    assert sums.maximum == 2 * 15 * 2
    with pytest.raises(MethodError, match="take the conditional branch"):
        recorded(loaded, asked, branch="unconditional")
