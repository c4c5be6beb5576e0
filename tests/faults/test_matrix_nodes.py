"""A whole node leaves, with its workers and the images it held, at each step that runs there."""

import subprocess
import sys

import pytest

from tests.faults.command import Command, arguments, environment
from tests.faults.table import STEPS
from tests.runs import run_config


def finish(config, folder):
    """What the command says that is given once more; nothing is left, so it needs no cluster."""
    again = Command(config, folder / "again.log")
    assert again.end() == 0, again.text
    return again.text


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_losing_a_node_at_each_step_of_its_work(matrix, tmp_path, repository):
    def config_in(folder, **runtime):
        folder.mkdir()
        return run_config(folder, count=60, runtime=runtime, model={"device": "cuda"})

    config = config_in(tmp_path / "undisturbed", runner="local")
    command = Command(config, tmp_path / "log")
    assert command.end() == 0, command.text
    steps = ["worker.loading", "batch.begun", "refine.begun"]
    configs = {}
    for step in steps:
        configs[step] = config_in(tmp_path / step, workers=3, refine_images=1, crash_budget=10)
        arguments(configs[step], tmp_path / step)
    script = repository / "tests/faults/lose_nodes.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), *steps],
        cwd=repository,
        env=environment(repository, {}),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for step in steps:
        assert f"the node is gone at {step}" in done.stdout
        assert "every shard is there already" in finish(configs[step], tmp_path / step)
        matrix.check(
            tmp_path / step / "out",
            reference=tmp_path / "undisturbed" / "out",
            order=3,
            fault="a node removed, not gracefully",
            where=f"{STEPS[step]}, there",
        )
