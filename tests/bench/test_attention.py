import io
import json
import socket

import numpy as np
import pytest
import torch
from rich.console import Console

from ovamgen.bench.arithmetic import sd15_call_cost
from ovamgen.bench.attention import PROMPT, bench_attention, plain_diffusers
from ovamgen.bench.memory import LiveTensorBytes
from ovamgen.config import build_config
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.errors import ConfigError
from tests.golden.reference import load_model


def config(**synthesis):
    return build_config(
        {"model": {"id": "mini"}, "synthesis": synthesis, "runtime": {"cpu_threads": 1}}
    )


def test_live_bytes_by_hand():
    with LiveTensorBytes() as live:
        first = torch.zeros(1000)
        second = first + 1
        view = second[:10]
        del second
        third = view + torch.ones(10)
    assert live.peak == 8000 + 40 + 40
    assert third.shape == (10,)
    with LiveTensorBytes() as live:
        for _ in range(50):
            torch.zeros(1000)
    assert live.peak == 4000


@pytest.fixture(scope="module")
def result():
    return bench_attention(
        config(steps=1, height=64, width=64), batch_size=2, rounds=2, memory_steps=(2, 8)
    )


def test_memory_does_not_grow_with_steps(result):
    """Promise 4: the running sums are all the state, whatever the number of calls."""
    few, many = result.peak_bytes
    positions = 8 * 8 + 4 * 4
    assert result.sink_bytes == (2 * 20 * positions * 4,) * 2
    # the scheduler's own list of timesteps is longer; a map kept at each step would be 205 kB
    assert abs(many - few) < 64 * 1024
    assert many < 1.1 * result.peak_bytes_off


def test_stored_queries_would_be_seen(result):
    """The measure is able to fail: keeping the queries of 40 steps outweighs the drawing itself."""
    from ovamgen.attribution.stored import StoredQueries

    peaks = []
    for steps in (2, 8):
        drawer = Synthesiser(load_model("mini"), config(steps=steps, height=64, width=64).synthesis)
        with LiveTensorBytes() as live:
            sink = StoredQueries()
            drawer.draw(["a cat"] * 2, [0, 1], listeners=[(sink, "unconditional")])
        peaks.append(live.peak)
    # 6 more calls, 2 images; of the 6 layers alone the 3 of 8x8 cells and width 64
    assert peaks[1] - peaks[0] > 6 * 2 * 3 * 64 * 64 * 4


def test_maps_of_sd15_are_small(result):
    """Counted without weights: sums of 64x64, 32x32 and 16x16 cells, and one update's scratch."""
    sums = 20 * (64 * 64 + 32 * 32 + 16 * 16) * 4
    # the first update of 64x64 makes scores of 8 heads in halves, and their float32 sum
    scratch = 64 * 64 * 20 * (8 * 2 + 4)
    assert sd15_call_cost().sum_bytes == sums
    assert scratch <= result.sd15_map_bytes_per_image - sums <= 2 * scratch
    assert result.sd15_map_bytes_per_image < 60e6
    assert 4 * 20 * (8 * 8 + 4 * 4) < result.map_bytes_per_image < 1e6


def test_plain_is_diffusers_alone():
    """No hook and no processor of ours is in what recording is compared with."""
    loaded = load_model("mini")
    settings = config(steps=2, height=64, width=64).synthesis
    unet = loaded.pipe.unet
    seen = []

    def look(module, inputs):
        seen.append([m for m in unet.modules() if m._forward_hooks])

    handle = unet.register_forward_pre_hook(look)
    try:
        plain = plain_diffusers(loaded, settings, 2)()
    finally:
        handle.remove()
    assert seen == [[], [], []]
    assert {type(p).__module__.split(".")[0] for p in unet.attn_processors.values()} == {
        "diffusers"
    }
    ours = Synthesiser(loaded, settings).draw([PROMPT] * 2, [0, 1]).pixels
    assert np.abs(plain - ours).max() < 1e-3


def test_what_is_reported(result):
    assert result.off_seconds > 0
    assert result.plain_seconds > 0
    assert result.ratio_low <= result.ratio <= result.ratio_high
    assert (result.model, result.batch_size, result.steps, result.rounds) == ("mini", 2, 1, 2)
    values = json.loads(json.dumps(result.to_json()))
    assert values["ratio"] == result.ratio
    assert values["ratio_to_plain"]["median"] == result.ratio_to_plain.median
    assert values["machine"]["torch"] == torch.__version__
    assert socket.gethostname() not in json.dumps(values)
    text = io.StringIO()
    Console(file=text, width=80).print(result.table())
    assert f"{result.ratio:.3f}" in text.getvalue()
    assert "64x64" in text.getvalue()


def test_numbers_that_cannot_be_measured():
    with pytest.raises(ConfigError, match="at least 2 rounds of at least 1 image, got 1 of 8"):
        bench_attention(config(), rounds=1)
