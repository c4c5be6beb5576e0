import pytest
import torch

from ovamgen.attribution.maps import MapSums
from ovamgen.attribution.ovam import Ovam
from ovamgen.attribution.targets import untrained_targets
from ovamgen.bench.combinations import Combination, default_combinations, parse_all, prepare
from ovamgen.bench.unet_calls import FastUnet, GraphedCall, second_unet
from ovamgen.classes.loading import default_classes
from ovamgen.config import ModelConfig, RunConfig
from ovamgen.diffusion.recorder import CrossAttentionRecorder
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import ConfigError
from tests.golden.reference import load_model

CPU = torch.device("cpu")


def test_names():
    combination = Combination.parse("compile + bf16+channels_last")
    assert combination.name == "bf16+channels_last+compile"
    assert "compile" in combination
    assert "graphs" not in combination
    assert [c.name for c in parse_all(["fp16", "fp16", "fp32+fused"], "cpu")] == [
        "fp16",
        "fp32+fused",
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bf16+fuse", "did you mean 'fused'"),
        ("bf16+zzz", "known are bf16"),
        ("channels_last", "has 0"),
        ("bf16+fp16", "has 2"),
        ("", "unknown part ''"),
    ],
)
def test_names_that_are_none(name, words):
    with pytest.raises(ConfigError, match=words):
        Combination.parse(name)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_defaults_try_each_switch_alone_and_all_together(device):
    tried = default_combinations(device)
    dtype = RunConfig(model=ModelConfig(id="random:sd15", device=device)).model.dtype
    today = {"float16": "fp16", "float32": "fp32"}[dtype]
    assert tried[0].name == today
    assert {"channels_last", "fused", "compile", "graphs"} <= {
        name for c in tried for name in c.switches if len(c.switches) == 1
    }
    assert len(tried[-1].switches) == 4
    assert any(c.name == "bf16" for c in tried)
    assert len({c.name for c in tried}) == len(tried)


def test_a_copy_is_prepared_and_the_base_stays():
    base = load_model("mini")
    made = prepare(base, Combination.parse("bf16+channels_last+fused"), CPU).pipe
    assert made.unet.dtype == made.vae.dtype == made.text_encoder.dtype == torch.bfloat16
    assert made.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    attention = made.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    assert attention.fused_projections
    assert base.pipe.unet.dtype == torch.float32
    assert not base.pipe.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    own = base.pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    assert not own.fused_projections


def inputs(unet):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, unet.config.in_channels, 8, 16, generator=generator)
    text = torch.randn(4, 77, unet.config.cross_attention_dim, generator=generator)
    return latents, text


@torch.no_grad()
def test_a_pure_call_gives_the_noise_and_the_maps_of_the_recorder():
    loaded = load_model("mini")
    attention = PipelineAttention(loaded)
    targets = untrained_targets(default_classes().phrase_by_name, attention.encode)
    latents, text = inputs(loaded.pipe.unet)
    sink = Ovam(attention, targets).open(["a cat"] * 2)
    with CrossAttentionRecorder(loaded.pipe.unet, "unconditional", True, sink):
        expected = [
            loaded.pipe.unet(latents, step, text, return_dict=False)[0] for step in (900, 500)
        ]

    plain, recorded = (second_unet(loaded.pipe.unet) for _ in range(2))
    assert next(recorded.parameters()) is next(loaded.pipe.unet.parameters())
    pairs = torch.stack([target.rows for target in targets])
    combination = Combination.parse("fp32")
    FastUnet(plain, combination, None)
    fast = FastUnet(recorded, combination, pairs)
    for unet in (plain, recorded):
        for step, noise in zip((900, 500), expected, strict=True):
            given = {"encoder_hidden_states": text, "timestep_cond": None, "return_dict": False}
            assert torch.equal(unet(latents, step, **given)[0], noise)
    # layers are summed within a call first, so the order of additions differs
    torch.testing.assert_close(fast.sums.total(), sink.class_maps(), rtol=1e-5, atol=1e-5)
    fast.sums = MapSums()
    recorded(latents, torch.tensor(500), encoder_hidden_states=text, return_dict=False)
    assert (fast.sums.total() < sink.class_maps()).all()
    assert not any(m._forward_hooks for m in loaded.pipe.unet.modules())
    assert not any(m._forward_hooks for m in plain.modules())


@torch.no_grad()
def test_what_a_pure_call_cannot_pass_on_is_refused():
    unet = second_unet(load_model("mini").pipe.unet)
    latents, text = inputs(unet)
    FastUnet(unet, Combination.parse("fp32"), None)
    with pytest.raises(ValueError, match="got class_labels as well"):
        unet(latents, 1, encoder_hidden_states=text, class_labels=torch.zeros(4))


def test_graphs_are_for_cuda():
    call = GraphedCall(lambda *given: pytest.fail("nothing can be captured here"))
    with pytest.raises(RuntimeError, match="need a CUDA device, got cpu"):
        call(torch.zeros(1), torch.zeros(1), torch.zeros(1))
