import pytest
import torch
from diffusers.models.attention_processor import Attention

from ovamgen.bench.arithmetic import call_cost, image_cost, matmul_rate, sd15_call_cost
from ovamgen.bench.memory import ScratchMeter, TrafficBytes
from ovamgen.diffusion.random_weights import skeleton_of
from tests.golden.reference import load_model


def counted_by_layer(unet, rows, size):
    """Operations from the shapes that pass while the network really runs."""
    total = [0]

    def count(module, inputs, output):
        if isinstance(module, torch.nn.Conv2d):
            kernel = module.weight[0].numel()
            total[0] += 2 * kernel * output.numel()
        else:
            total[0] += 2 * module.in_features * output.numel()

    def attend(module, inputs, kwargs, output):
        text = kwargs.get("encoder_hidden_states")
        positions = inputs[0].shape[1]
        keys = positions if text is None else text.shape[1]
        total[0] += 2 * 2 * rows * positions * keys * module.inner_dim

    handles = [
        module.register_forward_hook(attend, with_kwargs=True)
        if isinstance(module, Attention)
        else module.register_forward_hook(count)
        for module in unet.modules()
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear, Attention))
    ]
    config = unet.config
    with torch.no_grad():
        unet(
            torch.zeros(rows, config.in_channels, *size),
            torch.tensor(1),
            torch.zeros(rows, 77, config.cross_attention_dim),
        )
    for handle in handles:
        handle.remove()
    return total[0]


def test_operations_are_those_of_the_layers():
    unet = load_model("mini").pipe.unet
    cost = call_cost(skeleton_of(unet), 8, 16)
    assert cost.flops == counted_by_layer(unet, 2, (8, 16))
    assert call_cost(skeleton_of(unet), 8, 16, guided=False).flops * 2 == cost.flops


def test_recording_by_hand():
    """One product of queries with 20 keys a head, for one half of the batch."""
    unet = load_model("mini").pipe.unet
    cost = call_cost(skeleton_of(unet), 16, 16)
    layers = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    # three layers of 16x16 and three of 8x8 beside the middle one, which is not recorded
    positions = {64: 256, 128: 64}
    outside = [layer for layer in layers if layer.inner_dim in positions]
    assert cost.recording_flops == sum(
        2 * positions[layer.inner_dim] * layer.inner_dim * 20 for layer in outside
    )


def test_sd15_is_of_the_known_size():
    # 0.80 TFLOP a row of 512x512, as others have counted it (0.40 T multiply-accumulates)
    cost = sd15_call_cost()
    assert 1.58e12 < cost.flops < 1.63e12
    assert cost.recording_flops < 0.001 * cost.flops


@pytest.mark.parametrize(
    ("tokens", "megabytes"),
    [((), 67), pytest.param(("words",), 130, marks=pytest.mark.slow)],
    ids=["pairs", "words"],
)
def test_traffic_of_recording(tokens, megabytes):
    """Of an image and call, 20 classes; it was 193 MB and 530 when all was done in float32."""
    assert 0.9 * megabytes < sd15_call_cost(*tokens).recording_bytes / 1e6 < megabytes


def test_traffic_of_pairs_by_hand():
    """Queries and keys are read, scores written, read and written again, read; sums, twice."""
    cost = sd15_call_cost()
    cells = {320: 64 * 64, 640: 32 * 32, 1280: 16 * 16}
    halves = sum(
        5 * (count * width + 20 * width + 4 * 8 * 20 * count) for width, count in cells.items()
    )
    floats = sum(5 * 20 * count * (1 + 3) for count in cells.values())
    assert cost.recording_bytes == 2 * halves + 4 * floats


def test_traffic_is_of_what_is_read_and_written():
    with TrafficBytes() as traffic:
        numbers = torch.zeros(10)
        (numbers[:5] + numbers[5:]).sum()
    assert traffic.total == 4 * (10 + 15 + 6)


def test_calls_of_an_image():
    loaded = load_model("mini")
    size = {"height": 64, "width": 64, "guided": True}
    pndm = image_cost(loaded, steps=4, scheduler="PNDM", **size)
    ddim = image_cost(loaded, steps=4, scheduler="DDIM", **size)
    assert (pndm.unet_calls, ddim.unet_calls) == (5, 4)
    assert pndm.unet_flops * 4 == ddim.unet_flops * 5
    assert pndm.decoder_flops == ddim.decoder_flops > 0


def test_matmul_rate():
    assert 1e8 < matmul_rate(torch.device("cpu"), torch.float32, repetitions=2) < 1e15


class AddsOne:
    """A sink that makes one tensor as large as the queries, and keeps 12 bytes."""

    maximum = 1.0
    nbytes = 12

    def update(self, layer, queries, size):
        queries + 1

    def class_maps(self):
        raise AssertionError("only the updates are measured")

    def problem(self, image, target):
        return None

    def factor(self):
        return None


def test_scratch_is_the_largest_update():
    meter = ScratchMeter(AddsOne())
    for positions in (10, 40, 20):
        meter.update(0, torch.zeros(1, 1, positions, 1), (1, positions))
    assert meter.scratch_bytes == 160
    assert meter.nbytes == 172
