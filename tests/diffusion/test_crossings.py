"""What of a batch crosses between host and device, counted on a device that is pretended.

Every crossing that waits keeps a GPU from working ahead. A change that adds one shows here; the
counters name its line.
"""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from ovamgen.config import build_config
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.random_weights import build_pipeline
from ovamgen.engine.engine import Engine
from ovamgen.records import ModelInfo
from tests.diffusion.small import SMALL
from tests.diffusion.test_synthesis import old_numpy, tiny_checker
from tests.engine.test_engine import specs
from tests.pretended_cuda import DEVICE, PretendedCuda, to_device

CALLS, LAYERS, CLASSES = 3, 3, 20

TINY = replace(
    SMALL,
    unet=SMALL.unet
    | {
        "block_out_channels": (24, 40),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    vae=SMALL.vae
    | {
        "block_out_channels": (16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    },
    text_encoder=SMALL.text_encoder | {"num_hidden_layers": 1},
)
INFO = ModelInfo(
    model="tiny",
    revision="",
    digest="",
    height=16,
    width=16,
    vae_scale_factor=2,
    context_width=32,
    cross_attention_layers=LAYERS,
    trained=False,
)


@functools.cache
def pipeline(*, pretended):
    """The same weights on the CPU and on the pretended device, with a safety checker."""
    torch.set_num_threads(1)
    pipe = build_pipeline(TINY, dtype=torch.float32)
    checker, extractor = tiny_checker(2.0)
    parts = pipe.components | {"safety_checker": checker, "feature_extractor": extractor}
    if pretended:
        for name in ("unet", "vae", "text_encoder", "safety_checker"):
            parts[name] = to_device(parts[name])
    made = type(pipe)(**parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return LoadedPipeline(pipe=made, info=INFO)


def drawn(monkeypatch, *, pretended=True, safety="off", scheduler="PNDM", **sections):
    """One batch of two images by the engine, and what crossed meanwhile."""
    config = build_config(
        {
            "model": {"id": "random:sd15", "device": "cuda", "dtype": "float32"},
            "synthesis": {"steps": 2, "safety": safety, "scheduler": scheduler},
            "runtime": {"cpu_threads": 1},
        }
        | sections
    )
    loaded = pipeline(pretended=pretended)
    monkeypatch.setattr("ovamgen.engine.opened_model.load_pipeline", lambda *_, **__: loaded)
    crossings = PretendedCuda()
    with torch.no_grad(), crossings:
        engine = Engine.load(config)
        crossings.reads.clear()
        crossings.uploads.clear()
        batch = engine.synthesise(specs(1, 2))
    assert batch.failures == ()
    return batch, crossings


def check(crossings, *, reads, uploads):
    """Images, maps and counts are read in one copy; the rest is as many as are expected."""
    assert crossings.reads.total() == reads, crossings.reads
    assert crossings.uploads.total() == uploads, crossings.uploads
    assert crossings.sent.total() == crossings.waits == 1, crossings.sent


PNDM_READS = 8
"""The scheduler's, which looks numbers up by a timestep that lies on the device."""
ALWAYS_UPLOADED = 4
"""Noise, timesteps, sub-tokens of the prompts and of the negative prompts."""
UPLOADS = {
    ("ovam", "untrained"): 0,
    ("ovam", "words"): 0,
    # the prompts once more, and which of their rows count
    ("daam", "words"): 3,
    ("daam", "untrained"): 3,
}


def quick(method, factor, tokens):
    """Each method without a factor, OVAM's factors with words; the others take longer."""
    every_day = factor == "none" or (method, tokens) == ("ovam", "words")
    return () if every_day else pytest.mark.slow


@pytest.mark.parametrize(
    ("method", "factor", "tokens"),
    [
        pytest.param(method, factor, tokens, marks=quick(method, factor, tokens))
        for method in ("ovam", "daam", "daam-ovam", "attn2mask")
        for factor in ("none", "constant", "received", "affinity")
        for tokens in ("words", "untrained")
    ],
)
def test_methods(monkeypatch, method, factor, tokens):
    attribution = {"method": method, "tokens": tokens}
    batch, crossings = drawn(monkeypatch, attribution=attribution, masks={"self_attention": factor})
    told = method == "attn2mask"
    check(
        crossings,
        # a sink that is told each call's timestep is told it by the host
        reads=PNDM_READS + (CALLS if told else 0),
        uploads=ALWAYS_UPLOADED + UPLOADS["daam" if method == "daam" else "ovam", tokens],
    )
    assert batch.heatmaps.shape == (2, CLASSES, 8, 8)


SCHEDULERS = {
    "DDIM": (10, 4),
    "DDPM": (20, 6),
    "PNDM": (8, 4),
    "LMSDiscrete": (3, 5),
    "EulerDiscrete": (3, 5),
    "HeunDiscrete": (3, 5),
    "EulerAncestralDiscrete": (3, 7),
    "DPMSolverMultistep": (2, 4),
    "DPMSolverSinglestep": (3, 5),
    "KDPM2Discrete": (5, 7),
    "KDPM2AncestralDiscrete": (5, 8),
    "DEISMultistep": (2, 4),
    "UniPCMultistep": (2, 10),
    "EDMEuler": (3, 4),
}
"""Reads and uploads of two steps, all of them diffusers' own; those that draw noise upload it."""


EVERY_DAY = ("DDIM", "PNDM", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep")


@old_numpy
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
@pytest.mark.parametrize(
    "scheduler",
    [pytest.param(s, marks=() if s in EVERY_DAY else pytest.mark.slow) for s in SCHEDULERS],
)
def test_schedulers(monkeypatch, scheduler):
    words = {"tokens": "words"}
    _, crossings = drawn(monkeypatch, scheduler=scheduler, attribution=words)
    reads, uploads = SCHEDULERS[scheduler]
    check(crossings, reads=reads, uploads=uploads)


def test_every_scheduler_is_counted():
    usable = {kind.name.removesuffix("Scheduler") for kind in KarrasDiffusionSchedulers}
    assert usable - {"DPMSolverSDE"} == set(SCHEDULERS)


def test_the_safety_checker_is_asked_once_a_batch_and_the_device_draws_the_same(monkeypatch):
    """Two reads are diffusers' own, of two matrices of cosines."""
    batch, crossings = drawn(monkeypatch, safety="flag", attribution={"tokens": "words"})
    check(crossings, reads=PNDM_READS + 2, uploads=ALWAYS_UPLOADED + 1)
    same, _ = drawn(monkeypatch, pretended=False, safety="flag", attribution={"tokens": "words"})
    assert np.abs(batch.images.astype(int) - same.images).max() <= 1
    np.testing.assert_allclose(batch.heatmaps, same.heatmaps, atol=2e-3)
    assert batch.unsafe == same.unsafe == (False, False)


def test_the_device_refuses_what_a_real_one_refuses():
    with PretendedCuda() as crossings:
        there, here = torch.zeros(3, device=DEVICE), torch.zeros(3)
        with pytest.raises(
            RuntimeError, match=r"add.* given tensors of the device and of the host"
        ):
            there + here
        # numbers and indices may come from the host
        assert (there + here[0]).device == DEVICE
        assert (there[[0, 2]].cpu() == here[[0, 2]]).all()
        assert float(there[1]) == 0
        there[there > 0]
    assert crossings.uploads.total() == 1
    assert crossings.reads.total() == 3
