from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, PNDMScheduler

from recipes.mini.captions import names_of
from recipes.mini.catalogue import CLASSES
from recipes.mini.latents import CHANNELS
from recipes.mini.model import (
    ModelShape,
    alphas_cumprod,
    autocast,
    build_networks,
    cpu_computes_bfloat16,
    scheduler_config,
)
from recipes.mini.tokenizer import token_of
from tests.recipes.conftest import SMALL


def test_the_schedule_is_that_of_diffusers():
    expected = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).alphas_cumprod
    assert torch.allclose(alphas_cumprod(torch.device("cpu")), expected, atol=1e-6)
    shared = PNDMScheduler(**scheduler_config(), skip_prk_steps=True).alphas_cumprod
    assert torch.allclose(shared, expected)


@pytest.mark.parametrize(("flags", "expected"), [("fma avx2", False), ("avx2 avx512_bf16", True)])
def test_a_cpu_computes_in_bfloat16_where_it_has_the_instructions(monkeypatch, flags, expected):
    """Without them a step in bfloat16 took nine times as long as one in float32."""
    monkeypatch.setattr(Path, "read_text", lambda _: f"processor : 0\nflags : fpu {flags}\n")
    cpu_computes_bfloat16.cache_clear()
    with autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    cpu_computes_bfloat16.cache_clear()
    assert (product.dtype is torch.bfloat16) == expected


def test_the_shipped_shape_fits_the_package(tokenizer):
    networks = build_networks(ModelShape(), tokenizer, 0)
    bytes_in_half = 2 * sum(p.numel() for p in networks.unet.parameters())
    assert bytes_in_half < 15.9e6
    config = networks.unet.config
    assert config.down_block_types == (
        "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D",
        "DownBlock2D",
    )
    assert config.up_block_types == ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
    crossings = [module for name, module in networks.unet.named_modules() if name.endswith("attn2")]
    assert len(crossings) == 7
    assert {module.to_q.out_features // module.heads for module in crossings} == {32}


def test_names_of_a_class_start_alike_and_classes_orthogonal(tokenizer):
    networks = build_networks(SMALL, tokenizer, 0)
    weight = networks.text_encoder.get_input_embeddings().weight.detach()
    rows = torch.stack(
        [weight[token_of(tokenizer, entry.voc.phrase.split()[-1])] for entry in CLASSES]
    )
    products = rows @ rows.T / 64
    assert torch.allclose(products, torch.eye(20), atol=1e-5)
    for entry, row in zip(CLASSES, rows, strict=True):
        for name in names_of(entry):
            assert torch.equal(weight[token_of(tokenizer, name.split()[-1])], row), name


def test_networks_are_a_function_of_the_seed(tokenizer):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build_networks(SMALL, tokenizer, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = build_networks(SMALL, tokenizer, 3)
    other = build_networks(SMALL, tokenizer, 4)
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.unet.conv_in.weight, other.unet.conv_in.weight)


@pytest.mark.parametrize("text", ["a cat", "a dog"])
def test_the_text_reaches_the_prediction(tokenizer, text):
    networks = build_networks(SMALL, tokenizer, 0)
    latents = torch.randn(1, CHANNELS, 16, 16, generator=torch.Generator().manual_seed(0))

    def predict(prompt):
        ids = tokenizer([prompt], padding="max_length", return_tensors="pt").input_ids
        context = networks.text_encoder(ids).last_hidden_state
        return networks.unet(latents, 900, context).sample

    with torch.no_grad():
        assert not torch.allclose(predict(text), predict("a train"), atol=1e-6)
