import diffusers
import pytest
import torch

from ovamgen.attribution.interface import ClassTarget
from ovamgen.attribution.method import build_method
from ovamgen.attribution.ovam import PairMaps, TextMaps
from ovamgen.attribution.targets import phrase_targets
from ovamgen.config import MaskConfig, SynthesisConfig
from ovamgen.diffusion.recorder import (
    CrossAttentionRecorder,
    cross_attention_layers,
    self_attention_layers,
)
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.diffusion.text import encode_text
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import MethodError
from tests.golden.reference import tiny_sd

BRANCHES = ["unconditional", "conditional"]


class Notes:
    """A sink that writes down what it was given."""

    def __init__(self):
        self.calls = []

    def update(self, layer, queries, size):
        self.calls.append((layer, queries.clone(), size))


def hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


class Everything(Notes):
    """A sink that also writes down calls and self-attention."""

    def __init__(self):
        super().__init__()
        self.timesteps = []
        self.beside = []

    def begin_call(self, timestep):
        assert len(self.calls) == len(self.beside) == 15 * len(self.timesteps)
        self.timesteps.append(timestep)

    def update_self(self, layer, queries, keys, size, scale):
        self.beside.append((layer, queries.clone(), keys.clone(), size, scale))


def settings(**changes):
    return SynthesisConfig(**{"steps": 2, "height": 64, "width": 64, **changes})


def test_layers_are_those_of_methods_0_2():
    unet = tiny_sd().pipe.unet
    layers = cross_attention_layers(unet)
    names = [layer.name for layer in layers]
    assert len(names) == 15
    assert not any("mid_block" in name for name in names)
    assert [name.split(".")[0] for name in names] == ["up_blocks"] * 9 + ["down_blocks"] * 6
    for layer in layers:
        attention = unet.get_submodule(layer.name)
        assert layer.to_q is attention.to_q
        assert layer.heads * layer.head_dim == attention.to_q.out_features
        assert layer.scale == pytest.approx(layer.head_dim**-0.5)


def test_keys_are_those_of_the_layer():
    unet = tiny_sd().pipe.unet
    rows = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    for layer in cross_attention_layers(unet):
        attention = unet.get_submodule(layer.name)
        expected = attention.head_to_batch_dim(attention.to_k(rows)[None])
        torch.testing.assert_close(layer.project_keys(rows), expected)


@pytest.mark.parametrize("branch", BRANCHES)
def test_generation_is_bit_equal_with_recording(branch):
    loaded = tiny_sd()
    pairs = torch.randn(20, 2, 24, generator=torch.Generator().manual_seed(1))
    synthesiser = Synthesiser(loaded, settings(height=128, width=64))
    plain = synthesiser.draw(["a cat", "a dog"], [1, 2])
    sink = PairMaps(cross_attention_layers(loaded.pipe.unet), pairs)
    recorded = synthesiser.draw(["a cat", "a dog"], [1, 2], listeners=[(sink, branch)])
    assert sink.sums.maximum == 3 * 4 * 15
    assert (plain.pixels == recorded.pixels).all()


def test_generation_is_bit_equal_with_everything_recorded():
    """Methods 1.7 check 4, and self-attention: generation keeps its own attention (SDPA)."""
    loaded = tiny_sd()
    synthesiser = Synthesiser(loaded, settings(height=128, width=64))
    plain = synthesiser.draw(["a cat", "a dog"], [1, 2])
    words = phrase_targets({"cat": "cat"}, lambda text: encode_text(loaded.pipe, text))
    for kind in ("received", "affinity"):
        masks = MaskConfig(self_attention=kind)
        method = build_method("daam", PipelineAttention(loaded), words, masks)
        sink = method.open(["a cat", "a dog"])
        recorded = synthesiser.draw(["a cat", "a dog"], [1, 2], listeners=[(sink, "conditional")])
        assert sink.maximum == 3
        assert (plain.pixels == recorded.pixels).all()


@pytest.mark.parametrize("branch", BRANCHES)
def test_calls_and_self_attention_reach_sinks_that_ask_for_them(branch):
    unet = tiny_sd().pipe.unet
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(4, 4, 8, 16, generator=generator)
    context = torch.randn(4, 7, 24, generator=generator)
    paths = [layer.name.replace("attn2", "attn1") for layer in cross_attention_layers(unet)]
    inputs = {}
    handles = [
        unet.get_submodule(path).register_forward_pre_hook(
            lambda module, args, path=path: inputs.__setitem__(path, args[0])
        )
        for path in paths
    ]
    notes = Everything()
    with torch.no_grad(), CrossAttentionRecorder(unet, branch, True, notes):
        unet(latents, torch.tensor(981), encoder_hidden_states=context)
        unet(latents, timestep=1, encoder_hidden_states=context)
    for handle in handles:
        handle.remove()
    assert notes.timesteps == [981.0, 1.0]
    assert sorted(layer for layer, *_ in notes.beside) == sorted([*range(15)] * 2)
    half = slice(2) if branch == "unconditional" else slice(2, 4)
    for layer, queries, keys, (height, width), scale in notes.beside[15:]:
        attention = unet.get_submodule(paths[layer])
        assert width == 2 * height
        assert scale == pytest.approx(queries.shape[3] ** -0.5)
        for given, project in ((queries, attention.to_q), (keys, attention.to_k)):
            with torch.no_grad():
                expected = project(inputs[paths[layer]][half])
            expected = expected.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            assert given.shape[2] == height * width
            torch.testing.assert_close(given, expected)


def test_recorders_stack_on_one_drawing():
    synthesiser = Synthesiser(tiny_sd(), settings())
    unet = tiny_sd().pipe.unet
    each = [Notes(), Notes()]
    with (
        CrossAttentionRecorder(unet, "unconditional", True, each[0]),
        CrossAttentionRecorder(unet, "conditional", True, each[1]),
    ):
        synthesiser.draw(["a cat"], [0])
    for branch, notes in zip(BRANCHES, each, strict=True):
        alone = Notes()
        synthesiser.draw(["a cat"], [0], listeners=[(alone, branch)])
        assert all(
            one[0] == other[0] and torch.equal(one[1], other[1])
            for one, other in zip(notes.calls, alone.calls, strict=True)
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_cross_attention": True}, "attends to the text twice"),
        ({"norm_q": torch.nn.Identity()}, "normalises its queries and keys"),
    ],
)
def test_self_attention_that_cannot_be_recorded_is_refused(monkeypatch, change, reason):
    unet = tiny_sd().pipe.unet
    first = self_attention_layers(unet)[3]
    before = hooks(unet)
    for name, value in change.items():
        monkeypatch.setattr(first, name, value)
    with pytest.raises(MethodError, match=rf"attn2 {reason}: use masks.self_attention none"):
        CrossAttentionRecorder(unet, "conditional", True, Everything()).__enter__()
    assert hooks(unet) == before
    masks = MaskConfig(self_attention="received")
    target = ClassTarget(name="cat", rows=torch.zeros(2, 24), channel=1)
    with pytest.raises(MethodError, match=reason):
        build_method("ovam", PipelineAttention(tiny_sd()), [target], masks)


@pytest.mark.parametrize("branch", BRANCHES)
def test_queries_are_those_of_one_half_of_the_batch(branch):
    """Methods 2.7 check 2: one layer, one call, against a softmax over the layer's own modules."""
    unet = tiny_sd().pipe.unet
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(4, 4, 8, 16, generator=generator)
    context = torch.randn(4, 7, 24, generator=generator)
    rows = torch.randn(3, 24, generator=generator)
    layers = cross_attention_layers(unet)
    inputs = {}
    handles = [
        unet.get_submodule(layer.name).register_forward_pre_hook(
            lambda module, args, index=index: inputs.__setitem__(index, args[0])
        )
        for index, layer in enumerate(layers)
    ]
    notes = Notes()
    with torch.no_grad(), CrossAttentionRecorder(unet, branch, True, notes):
        unet(latents, 500, encoder_hidden_states=context)
    for handle in handles:
        handle.remove()
    assert sorted(layer for layer, _, _ in notes.calls) == list(range(15))
    for index, queries, size in notes.calls:
        attention = unet.get_submodule(layers[index].name)
        half = inputs[index][:2] if branch == "unconditional" else inputs[index][2:]
        maps = TextMaps([layers[index]], [rows])
        maps.update(0, queries, size)
        keys = attention.to_k(rows).expand(2, -1, -1)
        with torch.no_grad():
            scores = attention.get_attention_scores(
                attention.head_to_batch_dim(attention.to_q(half)), attention.head_to_batch_dim(keys)
            )
        expected = scores.view(2, attention.heads, -1, 3).sum(1).mT.reshape(2, 3, *size)
        torch.testing.assert_close(maps.result()[0], expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("height", "width", "sizes"),
    [
        (64, 128, {(8, 16), (4, 8), (2, 4)}),
        (128, 64, {(16, 8), (8, 4), (4, 2)}),
        (72, 136, {(9, 17), (5, 9), (3, 5)}),
    ],
)
def test_sizes_are_height_and_width(height, width, sizes):
    """Trap 1.6 (b): 2:1 images, and latents whose halves are odd."""
    loaded = tiny_sd()
    notes = Notes()
    Synthesiser(loaded, settings(height=height, width=width)).draw(
        ["a cat"], [0], listeners=[(notes, "unconditional")]
    )
    assert {size for _, _, size in notes.calls} == sizes
    assert all(queries.shape[2] == h * w for _, queries, (h, w) in notes.calls)


def test_maps_of_2_to_1_images_keep_their_orientation():
    """Latents that differ from left to right alone give maps that do, and the transpose ones."""
    loaded = tiny_sd()
    layers = cross_attention_layers(loaded.pipe.unet)
    unet = loaded.pipe.unet
    rows = torch.randn(2, 24, generator=torch.Generator().manual_seed(3))
    context = torch.zeros(1, 7, 24)
    ramp = torch.linspace(-3, 3, 32).expand(1, 4, 16, 32)
    spreads = []
    for latents in (ramp, ramp.mT):
        maps = PairMaps(layers, rows[None])
        with torch.no_grad(), CrossAttentionRecorder(unet, "conditional", False, maps):
            unet(latents.contiguous(), 500, encoder_hidden_states=context)
        heatmap = maps.result()[0, 0]
        assert heatmap.shape == latents.shape[2:]
        # padding disturbs the borders, so the middle is looked at
        middle = heatmap[4:-4, 4:-4]
        spreads.append((middle.std(1).mean().item(), middle.std(0).mean().item()))
    (across, down), (across_t, down_t) = spreads
    assert across > 2 * down
    assert down_t > 2 * across_t


def test_hooks_are_gone_afterwards():
    loaded = tiny_sd()
    before = hooks(loaded.pipe.unet)
    notes = Notes()
    with CrossAttentionRecorder(loaded.pipe.unet, "conditional", True, notes):
        assert hooks(loaded.pipe.unet) == before + 30
    assert hooks(loaded.pipe.unet) == before
    with CrossAttentionRecorder(loaded.pipe.unet, "conditional", True, Everything()):
        assert hooks(loaded.pipe.unet) == before + 30 + 1 + 30
    assert hooks(loaded.pipe.unet) == before


def test_hooks_are_gone_after_an_exception():
    class Broken:
        def update(self, layer, queries, size):
            raise RuntimeError("full")

    loaded = tiny_sd()
    before = hooks(loaded.pipe.unet)
    synthesiser = Synthesiser(loaded, settings())
    with pytest.raises(RuntimeError, match="full"):
        synthesiser.draw(["a cat"], [0], listeners=[(Broken(), "unconditional")])
    assert hooks(loaded.pipe.unet) == before
    assert synthesiser.draw(["a cat"], [0]).errors == (None,)


def test_3_without_guidance_there_is_the_conditional_half_only():
    """Methods 2.7 check 3."""
    loaded = tiny_sd()
    synthesiser = Synthesiser(loaded, settings(guidance=1.0))
    with pytest.raises(MethodError, match="guidance above 1"):
        synthesiser.draw(["a cat"], [0], listeners=[(Notes(), "unconditional")])
    notes = Notes()
    synthesiser.draw(["a cat", "a dog"], [0, 1], listeners=[(notes, "conditional")])
    assert all(len(queries) == 2 for _, queries, _ in notes.calls)


def test_a_unet_without_cross_attention_is_refused():
    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )
    with pytest.raises(MethodError, match="UNet2DModel without any"):
        cross_attention_layers(unet)
