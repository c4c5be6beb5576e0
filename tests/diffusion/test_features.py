"""Block features and attention maps: any number of images, the calls asked for, no trace left."""

import diffusers
import pytest
import torch

from ovamgen.diffusion.features import FeatureRecorder, feature_bytes, feature_levels
from ovamgen.errors import MethodError
from tests.diffusion.small import small_pipeline
from tests.golden.reference import load_model, tiny_sd


class Kept:
    """A sink that keeps what it is given of the calls at some timesteps."""

    def __init__(self, *timesteps, before_upsampling=True, with_attention=True):
        self.timesteps = timesteps
        self.before_upsampling = before_upsampling
        self.with_attention = with_attention
        self.calls = []

    def wants_features(self, timestep):
        return timestep in self.timesteps

    def take_features(self, features, attention):
        self.calls.append((features, attention))


def hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def call(unet, images, timestep=1, height=16, width=16, tokens=9):
    """One guided call on so many images."""
    latents = random(images, unet.config.in_channels, height, width)
    context = random(2 * images, tokens, unet.config.cross_attention_dim, seed=1)
    return unet(torch.cat([latents, latents]), timestep, encoder_hidden_states=context).sample


def flat(levels):
    return [item for items in levels for item in items]


def test_blocks_are_those_of_the_published_captures():
    unet = tiny_sd().pipe.unet
    grounded = feature_levels(unet, before_upsampling=False, with_attention=False)
    names = [[block.name for block in level.blocks] for level in grounded]
    assert names == [
        ["down_blocks.2.downsamplers.0", "down_blocks.3.resnets.0", "down_blocks.3.resnets.1",
         "mid_block", "up_blocks.0.resnets.0", "up_blocks.0.resnets.1"],
        ["down_blocks.1.downsamplers.0", "down_blocks.2.attentions.0", "down_blocks.2.attentions.1",
         "up_blocks.0.upsamplers.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"],
        ["down_blocks.0.downsamplers.0", "down_blocks.1.attentions.0", "down_blocks.1.attentions.1",
         "up_blocks.1.upsamplers.0", "up_blocks.2.attentions.0", "up_blocks.2.attentions.1"],
        ["conv_in", "down_blocks.0.attentions.0", "down_blocks.0.attentions.1",
         "up_blocks.2.upsamplers.0", "up_blocks.3.attentions.0", "up_blocks.3.attentions.1",
         "up_blocks.3.attentions.2"],
    ]  # fmt: skip
    datasetdm = feature_levels(unet, before_upsampling=True, with_attention=True)
    assert [[block.name for block in level.blocks] for level in datasetdm] == [
        [*names[0], "up_blocks.0.resnets.2"],
        [*names[1], "up_blocks.1.attentions.2"],
        [*names[2], "up_blocks.2.attentions.2"],
        names[3],
    ]
    assert [len(level.attention) for level in datasetdm] == [1, 5, 5, 5]
    assert [name.split(".")[0] for name in datasetdm[1].attention] == ["up_blocks"] * 3 + [
        "down_blocks"
    ] * 2


def test_channels_of_stable_diffusion_are_those_that_the_published_heads_expect():
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8
        )
    grounded = feature_levels(unet, before_upsampling=False, with_attention=False)
    assert [level.channels(77) for level in grounded] == [15360, 14080, 8320, 5120]
    datasetdm = feature_levels(unet, before_upsampling=True, with_attention=True)
    assert [level.channels(77) for level in datasetdm] == [18536, 19720, 12680, 8200]


@pytest.mark.parametrize("name", [pytest.param("small", marks=pytest.mark.slow), "mini"])
def test_batches_give_what_single_images_give(name):
    unet = small_pipeline().unet if name == "small" else load_model("mini").pipe.unet
    context = random(16, 9, unet.config.cross_attention_dim, seed=1)
    latents = random(8, unet.config.in_channels, 16, 16)
    for images in (1, 3, 8):
        chosen = [*range(images)]
        sink, alone = Kept(1), [Kept(1) for _ in chosen]
        with torch.no_grad(), FeatureRecorder(unet, True, sink):
            rows = [*chosen, *(8 + i for i in chosen)]
            unet(latents[chosen].repeat(2, 1, 1, 1), 1, encoder_hidden_states=context[rows])
        for image, one in zip(chosen, alone, strict=True):
            with torch.no_grad(), FeatureRecorder(unet, True, one):
                pair = context[[image, 8 + image]]
                unet(latents[[image, image]], 1, encoder_hidden_states=pair)
            for kind in (0, 1):
                together = flat(sink.calls[0][kind])
                for a, b in zip(together, flat(one.calls[0][kind]), strict=True):
                    largest = float(b.abs().max())
                    torch.testing.assert_close(a[image], b[0], rtol=0, atol=1e-4 * largest)


def test_nothing_of_the_picture_changes_and_no_hook_stays():
    unet = small_pipeline().unet
    before = hooks(unet)
    plain = call(unet, 2)
    with FeatureRecorder(unet, True, Kept(1)):
        watched = call(unet, 2)
        assert hooks(unet) > before
    assert torch.equal(plain, watched)
    with pytest.raises(ZeroDivisionError), FeatureRecorder(unet, True, Kept(1)):
        raise ZeroDivisionError
    assert hooks(unet) == before


def test_only_the_calls_that_are_wanted_are_recorded():
    unet = small_pipeline().unet
    sink = Kept(1, 21)
    with FeatureRecorder(unet, True, sink):
        for timestep in (41, 21, 1):
            call(unet, 1, timestep=timestep)
    assert len(sink.calls) == 2
    assert not torch.equal(sink.calls[0][0][-1][-1], sink.calls[1][0][-1][-1])


def test_attention_sums_to_one_over_the_tokens():
    unet = small_pipeline().unet
    sink = Kept(1)
    with FeatureRecorder(unet, True, sink):
        call(unet, 2, height=8, width=24, tokens=5)
    features, attention = sink.calls[0]
    assert [len(items) for items in attention] == [1, 5, 5, 5]
    for items, beside in zip(features, attention, strict=True):
        size = items[0].shape[2:]
        assert size[1] == 3 * size[0]
        for maps in beside:
            assert maps.shape == (2, 2 * 5, *size)
            sums = maps.unflatten(1, (2, 5)).sum(2)
            torch.testing.assert_close(sums, torch.ones_like(sums))


def test_attention_is_not_computed_for_a_sink_that_does_not_ask():
    sink = Kept(1, with_attention=False, before_upsampling=False)
    with FeatureRecorder(small_pipeline().unet, True, sink):
        call(small_pipeline().unet, 1)
    assert sink.calls[0][1] == [[], [], [], []]


@pytest.mark.parametrize("with_attention", [False, True])
def test_memory_is_what_was_stated(with_attention):
    unet = small_pipeline().unet
    levels = feature_levels(unet, before_upsampling=True, with_attention=with_attention)
    stated = feature_bytes([level.channels(9) for level in levels], (12, 20), itemsize=4)
    sink = Kept(1, with_attention=with_attention)
    with FeatureRecorder(unet, True, sink):
        call(unet, 3, height=12, width=20)
    held = [t for kind in sink.calls[0] for t in flat(kind)]
    # storages, since a view would hold what it was cut from
    assert sum(t.untyped_storage().nbytes() for t in held) == 3 * stated


def test_a_batch_without_guidance_is_refused():
    with pytest.raises(MethodError, match="guidance above 1"):
        FeatureRecorder(small_pipeline().unet, False, Kept(1))


def test_a_unet_of_another_family_is_refused():
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(
            block_out_channels=(32, 32),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=8,
            mid_block_type=None,
        )
    with pytest.raises(MethodError, match="Stable Diffusion 1 or 2"):
        feature_levels(unet, before_upsampling=False, with_attention=False)
