import csv

import numpy as np
import pytest
import torch

from recipes.mini.catalogue import CLASSES
from recipes.mini.dataset import DataSettings, held_out
from recipes.mini.latents import CHANNELS
from recipes.mini.model import build_networks
from recipes.mini.probes import (
    CaptionGap,
    caption_gap,
    class_prompts,
    draw_latents,
    other_class_partners,
    tile,
)
from recipes.mini.runs import Bench, probe
from recipes.mini.settings import TrainSettings
from recipes.mini.state import new_state
from tests.recipes.conftest import SMALL

CPU = torch.device("cpu")


def test_partners_are_of_another_class_and_each_is_used_once():
    class_ids = [3, 1, 1, 2, 3, 3, 2, 1]
    partners = other_class_partners(class_ids)
    assert sorted(partners) == list(range(8))
    assert all(class_ids[i] != class_ids[j] for i, j in enumerate(partners))
    with pytest.raises(ValueError, match="more than half"):
        other_class_partners([1, 1, 2])


def test_the_gap_in_percent_by_hand():
    gap = CaptionGap(right=(1.0, 1.0, 0.5, 0.5, 0.2), shuffled=(1.0, 1.01, 0.55, 0.5, 0.3))
    assert gap.percent == pytest.approx((0, 1, 10, 0, 50))
    assert gap.row()["gap_percent_800_1000"] == "50.00"
    assert str(gap).endswith(
        "0-200: 0.0, 200-400: 1.0, 400-600: 10.0, 600-800: 0.0, 800-1000: 50.0"
    )


@pytest.mark.slow
def test_a_model_that_cannot_see_the_text_has_no_gap(sprites, space, tokenizer):
    networks = build_networks(SMALL, tokenizer, 0)
    pictures = held_out(DataSettings(variety="all"), sprites, 24, single=True)
    seeing = caption_gap(networks, pictures, space, tokenizer, CPU)
    with torch.no_grad():
        for name, module in networks.unet.named_modules():
            if name.endswith("attn2.to_v"):
                module.weight.zero_()
    blind = caption_gap(networks, pictures, space, tokenizer, CPU)
    assert blind.percent == (0.0,) * 5
    assert seeing.percent != blind.percent
    assert all(error > 0 for error in blind.right)


# diffusers 0.42 hands a tensor to np.array in DPMSolver's set_timesteps; numpy 2 deprecates that.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_samples_are_a_function_of_the_seed(tokenizer):
    networks = build_networks(SMALL, tokenizer, 0)
    networks.train(False)
    both = draw_latents(networks, ["a cat", "a dog"], tokenizer, CPU, steps=2)
    again = draw_latents(networks, ["a cat", "a dog"], tokenizer, CPU, steps=2)
    other = draw_latents(networks, ["a cat", "a dog"], tokenizer, CPU, steps=2, seed=1)
    assert both.shape == (2, CHANNELS, 16, 16)
    assert np.array_equal(both, again)
    assert not np.allclose(both, other)


def test_prompts_name_the_classes_in_order():
    prompts = class_prompts()
    assert prompts[0] == "a photograph of an aeroplane"
    assert prompts[10] == "a photograph of a dining table"
    assert prompts[19] == "a photograph of a tv"
    assert len(prompts) == len(CLASSES)


def test_tiles_fill_rows():
    images = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (1, 2, 3)])
    assert tile(images, columns=2)[..., 0].tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 0, 0],
        [3, 3, 0, 0],
    ]


def test_a_probe_measures_the_averages_and_puts_the_weights_back(
    cache, sprites, space, tokenizer, tmp_path, monkeypatch
):
    state = new_state(TrainSettings(), SMALL, tokenizer, cache.digest, CPU)
    with torch.no_grad():
        for mean in state.ema:
            mean.mul_(0.5)
    weights = [p.detach().clone() for p in state.networks.parameters()]
    means = [mean.clone() for mean in state.ema]
    pictures = held_out(DataSettings(variety="all"), sprites, 8, single=True)
    bench = Bench(data=cache, tokenizer=tokenizer, device=CPU, space=space, pictures=pictures)
    grid = np.zeros((256, 1280, 3), np.uint8)
    seen = []

    def record(networks, *_):
        seen.append([p.detach().clone() for p in networks.parameters()])
        return grid

    # Drawing 80 samples takes half a minute here; what is drawn is tested above.
    monkeypatch.setattr("recipes.mini.runs.sample_grid", record)
    gap = probe(tmp_path, state, bench)
    assert all(torch.equal(a, b) for a, b in zip(seen[0], means, strict=True))
    now = [*state.networks.parameters(), *state.ema]
    assert all(torch.equal(a, b) for a, b in zip(now, [*weights, *means], strict=True))
    with (tmp_path / "probes.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["error_0_200"]) == pytest.approx(gap.right[0], abs=1e-4)
    assert (tmp_path / "samples-0000000.png").exists()
