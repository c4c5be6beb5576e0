"""The exact architectures of SD 2.1 and XL, with random weights, at their own sizes: slow."""

import resource

import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig

from ovamgen.attribution.ovam import PairMaps
from ovamgen.bench.arithmetic import call_cost
from ovamgen.config import ModelConfig, SynthesisConfig
from ovamgen.diffusion.architectures import SD15, SDXL_BASE
from ovamgen.diffusion.architectures import SD21 as SD21_PARTS
from ovamgen.diffusion.loading import TEXT_ENCODERS
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.diffusion.random_weights import build_pipeline, unet_skeleton
from ovamgen.diffusion.recorder import cross_attention_layers
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.diffusion.text import encode_text
from tests.diffusion.compvis import save_single_file

# parameters of UNet and text encoders; the VAE is that of SD 1.5 in all of them
SD21 = [865_910_724, 340_387_840]
SDXL = [2_567_463_684, 123_060_480, 694_659_840]
HEADS_SD21 = 5 * 5 + 5 * 10 + 5 * 20
HEADS_SDXL = 10 * 10 + 50 * 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "parameters", "latents", "layers", "heads", "sizes"),
    [
        (SD21_PARTS, SD21, 96, 15, HEADS_SD21, (96, 48, 24)),
        (SDXL_BASE, SDXL, 128, 60, HEADS_SDXL, (64, 32)),
    ],
)
def test_sizes_of_the_published_architectures(
    architecture, parameters, latents, layers, heads, sizes
):
    """Parameters and shapes, on the meta device: nothing is allocated, no weight is drawn."""
    with torch.device("meta"):
        texts = [
            TEXT_ENCODERS[name](CLIPTextConfig(**arguments))
            for name, arguments in architecture.text_encoders.items()
        ]
    unet = unet_skeleton(architecture)
    counted = [sum(p.numel() for p in part.parameters()) for part in (unet, *texts)]
    assert counted == parameters
    found = cross_attention_layers(unet)
    assert len(found) == architecture.facts("own").cross_attention_layers == layers
    assert sum(layer.heads for layer in found) == heads
    assert {layer.head_dim for layer in found} == {64}
    cost = call_cost(unet, latents, latents, classes=3)
    assert cost.sum_bytes == 3 * 4 * sum(cells**2 for cells in sizes)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "dtype", "parameters", "side", "layers", "heads", "sizes"),
    [
        ("random:sd21", "float32", SD21, 768, 15, HEADS_SD21, (96, 48, 24)),
        ("random:sdxl", "float32", SDXL, 1024, 60, HEADS_SDXL, (64, 32)),
    ],
)
def test_one_step_at_the_models_own_size(name, dtype, parameters, side, layers, heads, sizes):
    torch.set_num_threads(2)
    loaded = load_pipeline(ModelConfig(id=name, device="cpu", dtype=dtype))
    pipe = loaded.pipe
    assert (loaded.info.height, loaded.info.width) == (side, side)
    counted = [
        sum(parameter.numel() for parameter in getattr(pipe, part).parameters())
        for part in ("unet", *loaded.family.text_encoders)
    ]
    assert counted == parameters
    found = cross_attention_layers(pipe.unet)
    assert len(found) == loaded.info.cross_attention_layers == layers
    pairs = torch.stack([encode_text(pipe, text).rows[[0, 1]] for text in ("cat", "dog")])
    maps = PairMaps(found, pairs)
    settings = SynthesisConfig(steps=1, scheduler="DDIM")
    drawn = Synthesiser(loaded, settings).draw(
        ["a photograph of a cat"], [1], listeners=[(maps, "unconditional")]
    )
    assert drawn.errors == (None,)
    assert drawn.images.shape == (1, side, side, 3)
    assert drawn.images.std() > 5
    assert sorted(maps.sums.by_size, reverse=True) == [(cells, cells) for cells in sizes]
    assert maps.sums.maximum == heads
    result = maps.sums.total()[0].numpy()
    assert result.shape == (2, sizes[0], sizes[0])
    assert (result > 0).all()
    assert (result < heads).all()
    assert np.ptp(result) > 0
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{name} in {dtype}: peak resident memory {peak_bytes / 1e9:.1f} GB")
    assert peak_bytes < 20e9


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sd15_in_one_file(tmp_path):
    """The published architecture, in halves as such files come: by its widths, without settings."""
    torch.set_num_threads(2)
    pipe = build_pipeline(SD15, dtype=torch.float16)
    path = tmp_path / "sd15.safetensors"
    save_single_file(pipe, SD15.text_prefixes, path)
    pipe.save_pretrained(tmp_path / "folder")
    del pipe
    digests = []
    for place in (tmp_path / "folder", path):
        loaded = load_pipeline(ModelConfig(id=str(place), device="cpu", dtype="float32"))
        digests.append(loaded.info.digest)
    assert digests[0] == digests[1]
    assert (loaded.info.height, loaded.info.width, loaded.info.context_width) == (512, 512, 768)
    settings = SynthesisConfig(steps=1, scheduler="DDIM")
    drawn = Synthesiser(loaded, settings).draw(["a photograph of a cat"], [1])
    assert drawn.errors == (None,)
    assert drawn.images.std() > 5
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"one file of 1.5, in float32: peak resident memory {peak_bytes / 1e9:.1f} GB")
