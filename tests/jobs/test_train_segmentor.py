"""``jobs/train_segmentor.py``: Ray Train with two workers on CPUs, one network."""

import csv
import os
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ovamgen.segmentor.checkpoint import read_position
from tests.pictures.voc_folders import write_voc

pytestmark = pytest.mark.timeout(1900)


def submit(repository, folder, *arguments, **settings):
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "jobs/train_segmentor.py", "--config", str(config), *map(str, arguments)],
        cwd=repository,
        env=environment | {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.cluster
def test_two_workers_train_one_network(tmp_path, repository):
    voc = write_voc(tmp_path / "voc", {"train": 8})
    settings = {"real": str(voc), "batch_size": 8, "crop_px": 32, "device": "cpu"}
    settings |= {"steps": 6, "save_seconds": 1e-6}
    out = tmp_path / "out"
    done = submit(repository, tmp_path, "--out", out, "--workers", 2, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    position = read_position(out)
    assert (position.step, position.world_size) == (6, 2)
    weights = load_file(out / "segmentor.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())
    with (out / "log.csv").open() as file:
        # a row every 20 steps and one for the last
        assert [row["step"] for row in csv.DictReader(file)] == ["6"]
    # finished: nothing is taken again, and the weights stay
    again = submit(repository, tmp_path, "--out", out, "--workers", 2, **settings)
    assert again.returncode == 0, again.stdout + again.stderr
    for name, value in load_file(out / "segmentor.safetensors").items():
        assert torch.equal(value, weights[name]), name


def test_settings_that_cannot_be_are_refused_before_ray_starts(tmp_path, repository):
    failed = submit(
        repository, tmp_path, "--out", tmp_path / "out", "--workers", 4, real="x", batch_size=6
    )
    assert failed.returncode == 2
    assert "multiple of workers x accumulation = 4" in failed.stderr
    assert not (tmp_path / "out").exists()
