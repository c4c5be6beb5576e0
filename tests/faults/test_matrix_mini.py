"""One row with the real command, its own pipeline and faults from the environment."""

import signal
import subprocess
import sys

import pytest

from ovamgen.fault_points import FAULTS
from tests.faults.command import environment
from tests.faults.table import STEPS


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_embedded_model(matrix, tmp_path, repository):
    def generate(out, faults=""):
        options = ["--captions", "demo", "--limit", "6", "--shard-size", "3", "--batch-size", "2"]
        options += ["--model", "mini", "--steps", "2", "--runner", "local", "--out", str(out)]
        return subprocess.run(
            [sys.executable, "-m", "ovamgen", "generate", *options],
            cwd=repository,
            env=environment(repository, {FAULTS: faults}),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    assert generate(tmp_path / "undisturbed").returncode == 0
    for step in ("batch.begun", "shard.tar_published"):
        done = generate(tmp_path / "out", f"{step}:kill:2")
        assert done.returncode == -signal.SIGKILL, done.stderr
    done = generate(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    matrix.check(
        tmp_path / "out",
        reference=tmp_path / "undisturbed",
        order=11,
        fault="kill -9, the real command with `mini`",
        where=f"{STEPS['batch.begun']}, then {STEPS['shard.tar_published']}",
        times=2,
    )
