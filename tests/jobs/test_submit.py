"""``ray job submit`` against a real Ray of two nodes: exit codes, reasons, and the shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ovamgen.status.status import run_status

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def job_environment():
    """Ray's token authentication with a throwaway token."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a1b2c3d4e5f60718293a4b5c6d7e8f90"}
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    return environment | token | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_COLOR_PREFIX": "0"}


@pytest.fixture(scope="module")
def job_server(job_environment, repository):
    process = subprocess.Popen(
        [sys.executable, str(repository / "tests/jobs/two_nodes.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=job_environment,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["jobs"]
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=60)


def submit(server, environment, repository, *arguments):
    ray = Path(sys.executable).parent / "ray"
    command = [ray, "job", "submit", "--address", server, "--working-dir", repository, "--"]
    return subprocess.run(
        [*map(str, command), sys.executable, "jobs/generate.py", *map(str, arguments)],
        env=environment,
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.slow  # test_main_job.py runs the job's own entry point on Ray
def test_a_job_runs_to_the_end_on_two_nodes(tmp_path, job_server, job_environment, repository):
    out = tmp_path / "corpus"
    sets = [f"out={out}", "plan.limit=12", "plan.shard_size=6", "synthesis.steps=2"]
    sets += ["plan.batch_size=3", "runtime.workers=2", "runtime.cpu_threads=1"]
    options = [part for value in sets for part in ("--set", value)]
    done = submit(
        job_server, job_environment, repository, "--config", "jobs/configs/demo.yaml", *options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 made, 0 failed" in done.stdout
    status = run_status(str(out))
    assert (status.state, status.samples_made, status.shards_done) == ("complete", 12, 2)
    assert (out / "contact_sheet.png").is_file()


@pytest.mark.slow
def test_a_job_that_fails_says_why_and_ends_with_an_error(
    tmp_path, job_server, job_environment, repository
):
    failed = submit(
        job_server,
        job_environment,
        repository,
        "--config",
        "jobs/configs/demo.yaml",
        "--set",
        f"out={tmp_path / 'corpus'}",
        "--set",
        "plan.captions=no-such-file.json",
    )
    assert failed.returncode != 0
    assert "no-such-file.json" in failed.stdout
    assert not (tmp_path / "corpus").exists()
