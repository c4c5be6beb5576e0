"""Features, attention, drawings, text vectors and whole chains against the published captures."""

import contextlib
import functools
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ovamgen.attribution.heads.datasetdm import select_mask
from ovamgen.attribution.heads.grounded import grounded_mask
from ovamgen.attribution.heads.running import run_head
from ovamgen.attribution.heads.text import datasetdm_words, grounded_words
from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.features import FeatureRecorder
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.opened_model import PipelineAttention
from tests.attribution.test_golden_heads import compare_selection
from tests.golden import heads_reference as golden_heads
from tests.golden.reference import tiny_sd

TOLERANCE = 1e-4
CHAIN_TOLERANCE = {"grounded": 1e-4, "datasetdm": 2e-3}
KINDS = ["grounded", "datasetdm"]
RESOLUTIONS = dict(zip(golden_heads.LEVELS, (8, 16, 32, 64), strict=True))


class Capture:
    """A sink with what it took last, at the timesteps of the published captures."""

    def __init__(self, kind):
        self.before_upsampling = self.with_attention = kind == "datasetdm"
        self.taken = []

    def wants_features(self, timestep):
        return timestep <= 1

    def take_features(self, features, attention):
        self.taken.append(
            dict(zip(golden_heads.LEVELS, zip(features, attention, strict=True), strict=True))
        )

    @property
    def levels(self):
        """Of the only call that was wanted, as a head takes them."""
        (taken,) = self.taken
        return [[*features, *attention] for features, attention in taken.values()]


def golden(kind):
    return golden_heads.arrays(f"capture_{kind}")


def latents(kind):
    file = golden(kind)
    noise = golden_heads.generator(file["latents_seed"]).standard_normal((1, 4, 64, 64))
    noise = noise.astype(np.float32)
    assert zlib.crc32(noise.tobytes()) == int(file["latents_crc32"])
    return torch.from_numpy(noise)


@functools.cache
def call(kind, timestep):
    """One guided call of the UNet on the reference's latents and text states."""
    unet = tiny_sd().pipe.unet
    sink = Capture(kind)
    context = torch.from_numpy(golden(kind)["context"])
    with torch.no_grad(), FeatureRecorder(unet, True, sink):
        noise = unet(latents(kind).repeat(2, 1, 1, 1), timestep, encoder_hidden_states=context)
    return SimpleNamespace(sink=sink, noise=noise.sample)


@contextlib.contextmanager
def scheduler_config(pipe, **changes):
    """What Stable Diffusion's scheduler states beyond the one of this pipeline."""
    own = pipe.scheduler
    pipe.scheduler = type(own).from_config({**own.config, **changes})
    yield
    pipe.scheduler = own


@functools.cache
def drawing(kind, offset=1):
    """The reference's picture, drawn by the pipeline itself."""
    file = golden(kind)
    if kind == "grounded":
        settings = SynthesisConfig(
            steps=len(file["ddim/timesteps"]), guidance=7.5, scheduler="DDIM", height=512, width=512
        )
    else:
        settings = SynthesisConfig(
            steps=int(file["pndm/steps"]),
            guidance=float(file["pndm/guidance_scale"]),
            scheduler="PNDM",
            height=512,
            width=512,
        )
    loaded = tiny_sd()
    sink = Capture(kind)
    timesteps = []
    wanted = sink.wants_features
    sink.wants_features = lambda timestep: timesteps.append(timestep) or wanted(timestep)
    stated = scheduler_config(loaded.pipe, steps_offset=offset, clip_sample=False)
    with stated, FeatureRecorder(loaded.pipe.unet, True, sink):
        begun = Synthesiser(loaded, settings).begin(
            [str(file["prompt"])], [0], latents=latents(kind)
        )
    return SimpleNamespace(sink=sink, latents=begun.latents, decoded=begun.decoded, times=timesteps)


def compare_features(sink, file, case):
    (taken,) = sink.taken
    for level, (features, attention) in taken.items():
        assert len(features) == file[f"{case}/{level}/count"]
        for number, feature in enumerate(features):
            name = f"{case}/{level}/{number}"
            golden_heads.assert_close(feature, file[name], TOLERANCE, name)
            norm = float(feature.double().norm())
            assert norm == pytest.approx(float(file[f"{name}/norm"]), rel=TOLERANCE), name
            difference = float(feature.double().sum()) - float(file[f"{name}/sum"])
            assert abs(difference) <= TOLERANCE * norm * feature.numel() ** 0.5, name
        compare_attention(attention, file, case, RESOLUTIONS[level])


def compare_attention(attention, file, case, side):
    """The (layer, head) maps of one resolution, where the reference has them."""
    if not attention:
        return
    tokens = 77
    maps = torch.cat([m[0].unflatten(0, (-1, tokens)) for m in attention])
    maps = maps.permute(0, 2, 3, 1)
    sums = maps.double().square().sum((1, 2, 3))
    name = f"{case}/attention{side}"
    golden_heads.assert_close(sums, file[f"{name}/head_sums"], TOLERANCE, name)
    if name in file:
        golden_heads.assert_close(maps, file[name], TOLERANCE, name)


def compare_norms(sink, file, case):
    (taken,) = sink.taken
    for level, (features, _) in taken.items():
        norms = [float(feature.double().norm()) for feature in features]
        name = f"{case}/{level}/norms"
        golden_heads.assert_close(norms, file[name], TOLERANCE, name)


@pytest.mark.parametrize("kind", KINDS)
def test_one_call(kind):
    file = golden(kind)
    got = call(kind, 1)
    compare_features(got.sink, file, "call")
    golden_heads.assert_close(got.noise, file["call/noise"], TOLERANCE, "noise")


def test_the_only_call_of_training():
    compare_norms(call("datasetdm", 1).sink, golden("datasetdm"), "train")


@golden_heads.THOROUGH
def test_the_call_at_zero():
    compare_norms(call("datasetdm", 0).sink, golden("datasetdm"), "call_t0")


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        ("grounded", "ddim"),
        pytest.param("datasetdm", "pndm", marks=golden_heads.THOROUGH),
    ],
)
def test_a_drawing(kind, case):
    file, got = golden(kind), drawing(kind)
    assert got.times == list(file[f"{case}/timesteps"])
    golden_heads.assert_close(got.latents, file[f"{case}/latents"], TOLERANCE, "latents")
    compare_features(got.sink, file, case)
    compare_image(got.decoded, file[f"{case}/image"])


def test_a_drawing_of_grounded_before_truncation():
    pixels = (drawing("grounded").decoded[0] / 2 + 0.5).clamp(0, 1) * 255
    expected = golden("grounded")["ddim/image_before_truncation"]
    golden_heads.assert_close(pixels.permute(1, 2, 0), expected, TOLERANCE, "image")


@golden_heads.THOROUGH
def test_a_drawing_that_ends_at_zero():
    file, got = golden("datasetdm"), drawing("datasetdm", offset=0)
    assert got.times == list(file["pndm_offset0/timesteps"])
    expected = file["pndm_offset0/latents"]
    golden_heads.assert_close(got.latents, expected, TOLERANCE, "latents")
    compare_norms(got.sink, file, "pndm_offset0")
    compare_image(got.decoded, file["pndm_offset0/image"])


def compare_image(decoded, expected):
    """Both published scripts truncate: rounding makes a neighbouring value of a few."""
    pixels = ((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0)
    difference = golden_heads.subsample(pixels.numpy(), expected).astype(int) - expected
    assert np.abs(difference).max() <= 1
    assert (difference != 0).sum() <= 4


@pytest.mark.parametrize("number", range(4))
def test_words_of_grounded(number):
    file = golden("grounded")
    prompt, name = (str(file[f"text/{number}/{part}"]) for part in ("prompt", "class_name"))
    got = grounded_words(PipelineAttention(tiny_sd()), prompt, name)
    golden_heads.assert_close(got, file[f"text/{number}/vector"][0, 0], 1e-6, prompt)


@pytest.mark.parametrize("number", range(3))
def test_words_of_datasetdm(number):
    file = golden("datasetdm")
    name = str(file[f"text/{number}/class_name"])
    got = datasetdm_words(PipelineAttention(tiny_sd()), name)
    golden_heads.assert_close(got, file[f"text/{number}/vector"][0, 0], 1e-6, name)


@functools.cache
def chain(kind):
    """The narrowed head, asked as a method asks it."""
    file = golden(kind)
    state = golden_heads.state_of(f"capture_{kind}", prefix="head/")
    model = PipelineAttention(tiny_sd())
    name = str(file["text/0/class_name"])
    if kind == "grounded":
        text = grounded_words(model, str(file["text/0/prompt"]), name)[None]
    else:
        text = datasetdm_words(model, name)
    network = golden_heads.network(kind, state, torch.float32)
    return run_head(network, "official", drawing(kind).sink.levels, text)


def test_the_chain_of_grounded():
    file = golden("grounded")
    logits = chain("grounded")
    golden_heads.assert_close(logits[None], file["chain/logits"], 1e-4, "logits")
    mask, expected = grounded_mask(logits[0]).numpy(), golden_heads.unpack(file, "chain")
    assert expected.sum() == file["chain/mask_pixels"]
    assert (mask != expected).sum() <= 4


@golden_heads.THOROUGH
def test_the_chain_of_datasetdm():
    file = golden("datasetdm")
    said = chain("datasetdm")[-1]
    for got, name in ((said.classes, "pred_logits"), (said.masks, "pred_masks")):
        golden_heads.assert_close(got[None], file[f"chain/{name}"], 2e-3, name)
    compare_selection(select_mask(said, (512, 512)), file, "chain", 2e-3)
