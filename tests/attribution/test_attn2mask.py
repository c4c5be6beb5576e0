"""Attn2Mask against einsum; the parity checks of methods 4 (1 and 5 are in tests/masks)."""

import functools

import diffusers
import pytest
import torch

from ovamgen.attribution.attn2mask import Attn2Mask, Attn2MaskSink
from ovamgen.attribution.ovam import OvamSink, PairMaps, TextMaps
from ovamgen.attribution.targets import phrase_targets
from ovamgen.diffusion.text import encode_text
from ovamgen.engine.engine import normalise
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import MethodError
from tests.attribution.drawings import AttentionInputs, draw
from tests.golden.reference import tiny_sd


def model():
    return PipelineAttention(tiny_sd())


def encode(text):
    return encode_text(tiny_sd().pipe, text)


class Timesteps:
    """A sink that writes down every call's timestep."""

    def __init__(self):
        self.seen = []

    def begin_call(self, timestep):
        self.seen.append(timestep)

    def update(self, layer, queries, size):
        pass


@functools.cache
def hundred_steps():
    """100 PNDM steps at 64x64: the method, all timesteps, and each layer's inputs by call."""
    sink = Attn2Mask(model(), phrase_targets({"cat": "a cat"}, encode)).open(["a cat"])
    texts = TextMaps(model().layers, [encode("a cat").rows])
    nearest = Attn2MaskSink(OvamSink(texts))
    times = Timesteps()
    with AttentionInputs([layer.name for layer in model().layers]) as inputs:
        draw(
            [(sink, "unconditional"), (nearest, "unconditional"), (times, "conditional")],
            ["a cat"],
            steps=100,
            width=64,
        )
    return sink, texts, times.seen, inputs.calls


class TestParity:
    def test_2_call_50_of_101_is_at_timestep_501(self):
        sink, _, seen, inputs = hundred_steps()
        assert len(seen) == 101
        assert len(inputs) == 101 * 15
        assert (sink.call, sink.timestep) == (50, 501.0)
        assert seen[50] == 501.0
        scheduler = diffusers.PNDMScheduler.from_config(tiny_sd().pipe.scheduler.config)
        scheduler.set_timesteps(100)
        assert seen == scheduler.timesteps.tolist()

    def test_3_tokens_sum_to_heads_times_layers(self):
        _, texts, _, _ = hundred_steps()
        assert texts.sums.maximum == 4 * 15
        (maps,) = texts.result()
        torch.testing.assert_close(maps.sum(1), torch.full((1, 8, 8), 60.0))

    def test_4_min_max_does_not_see_scale(self):
        maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        one, _ = normalise(maps, 1.0, how="min-max")
        other, _ = normalise(5 * maps + 2, 1.0, how="min-max")
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert (one.amin((2, 3)) == 0).all()
        assert (one.amax((2, 3)) == 1).all()

    def test_the_map_is_an_einsum_over_call_50(self):
        """Keys of the phrase alone, row 0 of the batch, softmax over its own four rows."""
        sink, _, _, inputs = hundred_steps()
        unet = tiny_sd().pipe.unet
        rows = encode("a cat").rows
        expected = torch.zeros(8, 8, dtype=torch.float64)
        for path, hidden, _ in inputs[50 * 15 : 51 * 15]:
            attention = unet.get_submodule(path)
            with torch.no_grad():
                queries = attention.to_q(hidden)[0].double().unflatten(-1, (attention.heads, -1))
                keys = attention.to_k(rows).double().unflatten(-1, (attention.heads, -1))
            scores = torch.einsum("pnd,lnd->npl", queries, keys) * queries.shape[-1] ** -0.5
            side = int(len(hidden[0]) ** 0.5)
            square = scores.softmax(-1)[:, :, 2].sum(0).reshape(1, 1, side, side)
            expected += torch.nn.functional.interpolate(square, (8, 8), mode="bilinear")[0, 0]
        torch.testing.assert_close(sink.class_maps()[0, 0].double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("timesteps", "call"),
    [
        ([591, 491, 391, 291, 191, 91], 1),  # image to image: drawing begins late
        ([961, 961, 921], 2),
        ([301, 201, 101], 0),  # and later than the call that is wanted
        ([601, 401], 0),  # equally near: the first
    ],
)
def test_the_nearest_call_is_taken_whatever_the_schedule(timesteps, call):
    pairs = torch.randn(1, 2, 24, generator=torch.Generator().manual_seed(1))
    layers = model().layers
    nearest = Attn2MaskSink(OvamSink(PairMaps(layers, pairs)))
    generator = torch.Generator().manual_seed(2)
    given = [torch.randn(1, 4, 16, layers[0].head_dim, generator=generator) for _ in timesteps]
    for timestep, queries in zip(timesteps, given, strict=True):
        nearest.begin_call(float(timestep))
        nearest.update(0, queries, (4, 4))
    alone = PairMaps(layers, pairs)
    alone.update(0, given[call], (4, 4))
    assert (nearest.call, nearest.timestep) == (call, timesteps[call])
    assert torch.equal(nearest.class_maps(), alone.result())


def test_state_does_not_grow_with_steps():
    sizes = []
    for steps in (1, 5):
        sink = Attn2Mask(model(), phrase_targets({"a": "cat"}, encode)).open([""])
        draw([(sink, "unconditional")], steps=steps)
        assert sink.maximum == 60
        sizes.append(sink.nbytes)
    assert sizes[0] == sizes[1] > 0


def test_nothing_recorded_is_said():
    sink = Attn2Mask(model(), phrase_targets({"a": "cat"}, encode)).open([""])
    assert sink.timestep is None
    with pytest.raises(MethodError, match="no attention was recorded"):
        sink.class_maps()
