"""A whole node leaves in the middle of a run, with its workers and the images it held."""

import os
import subprocess
import sys

import pytest

from ovamgen.run.local import generate_local
from tests.fakes import DiscEngine
from tests.runs import digests, make, run_config


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(280)
def test_losing_a_node_costs_nothing_but_time(tmp_path, repository):
    lost = tmp_path / "lost"
    lost.mkdir()
    script = repository / "tests/cluster/lose_a_node.py"
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, str(script), str(lost)],
        cwd=repository,
        env=environment | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=260,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the node is gone" in done.stdout
    assert "150 made, 0 failed" in done.stdout
    assert "died: starting another" in done.stderr
    whole = tmp_path / "whole"
    whole.mkdir()
    config = run_config(whole, count=150, model={"device": "cuda"})
    make(config, generate_local, DiscEngine)
    ours, theirs = digests(lost / "out"), digests(config.out)
    # run.yaml and manifest.json name the captions' path, which differs between the two processes
    differing = {name for name in theirs if ours.get(name) != theirs[name]}
    assert differing <= {"run.yaml", "manifest.json"}
    assert ours.keys() == theirs.keys()
