"""What recording inside torch.compile comes to, as a program: ``python -m`` prints it as JSON.

Not in the process of the tests, whose checks of types a compiler cannot look through.
"""

import json
import sys

import torch
from diffusers import UNet2DConditionModel
from torch._dynamo.testing import CompileCounter

from ovamgen.attribution.daam import DaamMaps, PromptContext
from ovamgen.attribution.ovam import ChosenMaps, PairMaps, TextMaps
from ovamgen.bench.combinations import Combination
from ovamgen.bench.unet_calls import FastUnet, second_unet
from ovamgen.diffusion.recorder import CrossAttentionRecorder, cross_attention_layers

CALLS = 3
UNET = UNet2DConditionModel(
    block_out_channels=(8,),
    layers_per_block=1,
    cross_attention_dim=24,
    attention_head_dim=2,
    norm_num_groups=4,
    mid_block_type=None,
    down_block_types=("CrossAttnDownBlock2D",),
    up_block_types=("CrossAttnUpBlock2D",),
)
"""Two heads, one layer on the way down and two on the way up: a compiler takes seconds."""
PAIRS = torch.randn(3, 2, 24, generator=torch.Generator().manual_seed(0))
SINKS = {
    "pairs": lambda layers: PairMaps(layers, PAIRS),
    "texts": lambda layers: TextMaps(layers, [PAIRS[0], PAIRS.flatten(0, 1)]),
    "chosen": lambda layers: ChosenMaps(layers, [PAIRS[0], PAIRS.flatten(0, 1)], [1, 3]),
    "daam": lambda layers: DaamMaps(
        layers, [PromptContext(image=0, rows=PAIRS.flatten(0, 1), kept=(1, 2))]
    ),
}


def inputs(number):
    draws = torch.Generator().manual_seed(number)
    return (
        torch.randn(2, 4, 8, 8, generator=draws),
        torch.tensor(900 - number),
        torch.randn(2, 77, 24, generator=draws),
    )


def watched(make, call_of):
    """A sink that listened to the calls, each of (latents, timestep, text)."""
    unet = second_unet(UNET)
    sink = make(cross_attention_layers(unet))
    call = call_of(unet)
    with torch.no_grad(), CrossAttentionRecorder(unet, "unconditional", True, sink):
        for number in range(CALLS):
            latents, timestep, text = inputs(number)
            call(latents, timestep, encoder_hidden_states=text)
    return sink


def difference(ours, theirs):
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


def maximum_of(sink):
    return sink.maximum if isinstance(sink, DaamMaps) else sink.sums.maximum


def compiled_whole(make):
    """A UNet compiled with its hooks."""
    counter = CompileCounter()
    plain = watched(make, lambda unet: unet)
    found = watched(make, lambda unet: torch.compile(unet, fullgraph=True, backend=counter))
    return {
        "compiles": counter.frame_count,
        "maxima": (maximum_of(found), maximum_of(plain)),
        "difference": difference(found.result(), plain.result()),
    }


def compiled_bench():
    """The bench's call, whose maps are outputs."""
    counter = CompileCounter()
    unet = second_unet(UNET)
    fast = FastUnet(unet, Combination.parse("fp32+compile"), PAIRS, backend=counter)
    with torch.no_grad():
        for number in range(CALLS):
            unet.forward(*inputs(number))
    plain = watched(SINKS["pairs"], lambda unet: unet)
    return {
        "compiles": counter.frame_count,
        "maxima": (),  # what the sums are of is known outside
        "difference": difference(fast.sums.total(), plain.result()),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    (kind,) = sys.argv[1:]
    print(json.dumps(compiled_bench() if kind == "bench" else compiled_whole(SINKS[kind])))
