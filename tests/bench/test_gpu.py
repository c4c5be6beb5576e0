"""The sweep, its dry run on a CPU included; on a GPU: ``pytest -m gpu tests/bench``."""

import io
import json
import os
import subprocess
import sys

import pytest
import torch
from rich.console import Console

from ovamgen.bench.combinations import Combination, default_combinations, parse_all, prepare
from ovamgen.bench.gpu import bench_gpu, with_checker
from ovamgen.config import build_config
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.errors import ConfigError

WITHOUT = ("ray", "pydensecrf", "pyarrow", "webdataset", "matplotlib", "aiohttp")
"""What a GPU machine at hand may lack."""


def config(device="cpu", **synthesis):
    sections = {"model": {"id": "mini", "device": device}, "synthesis": synthesis}
    return build_config(sections)


NAMES = ("fp32", "fp32+graphs", "fp32+channels_last+fused")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(NAMES, id="fp32"),
        # a CPU without instructions for bf16 takes a minute for its few products
        pytest.param((*NAMES, "bf16"), id="bf16", marks=pytest.mark.slow),
    ],
)
def swept(request):
    names = request.param
    saved = []
    found = bench_gpu(
        config(steps=1, scheduler="DDIM", height=32, width=32),
        combinations=parse_all(names, "cpu"),
        batch_sizes=[1, 2],
        rounds=2,
        save=saved.append,
    )
    return names, found, saved


def test_a_combination_that_fails_is_a_row(swept):
    names, found, _ = swept
    rows = [(row.batch_size, row.combination, row.timings is None) for row in found.rows]
    assert rows == [(size, name, name == "fp32+graphs") for size in (1, 2) for name in names]
    assert found.rows[1].reason == "RuntimeError: CUDA graphs need a CUDA device, got cpu"


def test_rows_are_kept_one_by_one(swept):
    names, found, saved = swept
    planned = 2 * len(names)
    assert [len(state.rows) for state in saved] == list(range(planned + 1))
    assert {state.planned_rows for state in saved} == {planned}
    assert saved[-1] == found
    assert json.loads(json.dumps(saved[0].to_json()))["best"] is None


def test_combinations_draw_the_same(swept):
    """Images and maps of every row are compared with the first of its batch size."""
    timed = [row for row in swept[1].rows if row.timings is not None]
    for row in timed:
        assert row.timings.images_equal, row.combination
        exact = row.combination == "fp32"
        assert (row.timings.pixel_difference == 0) == exact or row.combination != "bf16"
        assert row.timings.map_difference < (1e-9 if exact else 0.2), row.combination
    fused = [row.timings for row in timed if "fused" in row.combination]
    assert all(t.map_difference < 1e-3 and t.pixel_difference < 0.1 for t in fused)


def test_shares_follow_from_what_was_measured(swept):
    _, found, _ = swept
    for row in found.rows:
        if row.timings is None:
            continue
        timings = row.timings
        assert timings.images_per_second == row.batch_size / timings.on_seconds.median
        floor_seconds = found.cost.unet_flops / timings.matmul_flops_per_second
        assert timings.share == pytest.approx(floor_seconds * timings.images_per_second)
        assert timings.peak_bytes is None
    best = found.to_json()["best"]
    assert best["images_per_second"] == max(
        row.timings.images_per_second for row in found.rows if row.timings
    )
    assert best["share_met"] is None
    assert best["ratio_met"] == (found.best.timings.ratio.median <= 1.10)
    text = io.StringIO()
    Console(file=text, width=100).print(found.table())
    assert "(best)" in text.getvalue()
    assert "batch 2, fp32+graphs: RuntimeError" in text.getvalue()


@pytest.mark.parametrize("name", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_random_weights_are_measured_with_a_safety_checker(name):
    """A default run of the model that they stand for has one, and it takes its time."""
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "projection_dim"), 8)
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    base = with_checker(load_pipeline(build_config({"model": {"id": "mini"}}).model), sizes)
    loaded = prepare(base, Combination.parse(name), torch.device("cpu"))
    calls = []
    loaded.pipe.safety_checker.register_forward_pre_hook(lambda *given: calls.append(given))
    drawn = Synthesiser(loaded, config(steps=1, height=64, width=64).synthesis).draw(
        ["a"] * 2, [1, 2]
    )
    assert len(calls) == 1
    assert drawn.unsafe == (False, False)


def test_what_cannot_be_measured():
    with pytest.raises(ConfigError, match="at least 2 rounds of at least 1 image, got 2 of 0"):
        bench_gpu(config(), combinations=parse_all((), "cpu"), batch_sizes=[], rounds=2)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="--device cpu for a dry run"):
            bench_gpu(config("cuda"), combinations=parse_all((), "cuda"), batch_sizes=[1])


def dry_run(tmp_path, *tries):
    """The command in a process that cannot import what a GPU machine may lack."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({WITHOUT!r}))\n"
        "from ovamgen.cli import main; main()"
    )
    given = ["--device", "cpu", "--model", "mini", "--steps", "1", "--batch-sizes", "1"]
    given += ["--height", "32", "--width", "32"]
    saved = tmp_path / "new" / "gpu.json"
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "bench",
            "gpu",
            *given,
            "--rounds",
            "2",
            "--json",
            "--save",
            saved,
            *tries,
        ],
        capture_output=True,
        text=True,
        timeout=1600,
        check=False,
        env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")},
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert json.loads(saved.read_text()) == figures
    return figures, result.stderr


def test_dry_run_without_ray(tmp_path):
    figures, lines = dry_run(tmp_path, "--try", "fp32", "--try", "fp32+fused")
    assert [row["combination"] for row in figures["rows"]] == ["fp32", "fp32+fused"]
    assert figures["targets"] == {"share": None, "ratio": 1.10}
    assert figures["machine"]["torch_threads"] == 1
    assert "2/2 batch 1, fp32+fused" in lines
    assert "% of the matrix rate" in lines


@pytest.mark.slow
@pytest.mark.timeout(1700)
def test_compiled_calls_draw_and_record_the_same(tmp_path):
    """Two minutes of compiling on a machine that does nothing else."""
    together = "fp32+channels_last+fused+compile"
    figures, _ = dry_run(tmp_path, "--try", "fp32", "--try", together, "--try", "bf16+graphs")
    rows = {row["combination"]: row for row in figures["rows"]}
    assert rows[together]["reason"] == ""
    assert rows[together]["timings"]["map_difference"] < 1e-3
    assert rows[together]["timings"]["pixel_difference"] < 0.1
    assert rows[together]["timings"]["warmup_seconds"] > rows["fp32"]["timings"]["warmup_seconds"]
    assert "CUDA graphs need a CUDA device" in rows["bf16+graphs"]["reason"]


@pytest.mark.gpu
@pytest.mark.timeout(1000)
def test_all_combinations_on_a_gpu():
    found = bench_gpu(
        config("cuda", steps=4),
        combinations=default_combinations("cuda"),
        batch_sizes=[2],
        rounds=2,
        backend="eager",  # type checks of a test run are in the way of the real compiler
    )
    for row in found.rows:
        assert row.timings is not None, f"{row.combination}: {row.reason}"
        assert row.timings.map_difference < 0.2, row.combination
        assert row.timings.peak_bytes is not None
