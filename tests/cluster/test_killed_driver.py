"""The command killed, drained and run again: the bytes of an undisturbed run, nothing left over."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ovamgen.cli import app
from ovamgen.status.status import run_status
from tests.runs import PROMPTS, captions_file, digests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    texts = [PROMPTS[i % len(PROMPTS)] for i in range(30)]
    return captions_file(tmp_path_factory.mktemp("captions") / "captions.csv", texts)


def arguments(captions, out, *more):
    """Of the real command with the real pipeline: five shards of six samples."""
    options = ["--captions", captions, "--model", "mini", "--steps", 2, "--shard-size", 6]
    return ["generate", *map(str, [*options, "--batch-size", 3, "--out", out, *more])]


def command(captions, out, *more):
    return [sys.executable, "-m", "ovamgen", *arguments(captions, out, *more)]


def run(captions, out, *more):
    done = subprocess.run(
        command(captions, out, *more), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def run_here(captions, out):
    """The command in this process, which need not load the libraries again."""
    done = CliRunner().invoke(app, arguments(captions, out, "--runner", "local"))
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def undisturbed(captions, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run_here(captions, out)
    return digests(out)


def started(captions, out, *more):
    return subprocess.Popen(
        command(captions, out, *more), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def wait_for_records(out, count, process):
    """Until so many shards are published."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if len(list(out.glob("manifests/*.json"))) >= count:
            return
        time.sleep(0.05)
    pytest.fail(f"{count} shards expected before the command ended")


@pytest.mark.slow  # tests/faults kills it at every step of the commit, faster
@pytest.mark.parametrize("kills", [1, 2])
def test_kill_9_of_the_driver_at_random_points(captions, undisturbed, tmp_path, kills):
    out = tmp_path / "out"
    times = random.Random(20261122)
    for _ in range(kills):
        before = len(list(out.glob("manifests/*.json")))
        process = started(captions, out, "--workers", 2)
        wait_for_records(out, before + 1, process)
        time.sleep(times.uniform(0.0, 0.2))
        workers = _ray_workers(process.pid)
        process.kill()
        process.communicate()
        assert workers
        _wait_for_end(workers)
    status = run_status(str(out))
    assert status.state == "partial"
    assert not status.running
    run(captions, out, "--workers", 2)
    assert digests(out) == undisturbed


@pytest.mark.slow  # tests/faults has signals with a small engine
def test_sigterm_finishes_the_open_shard_and_the_command_goes_on(captions, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = started(captions, out, "--runner", "local")
    wait_for_records(out, 1, process)
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=100)
    assert process.returncode == 143, text
    assert "SIGTERM: finishing the open shards" in text
    assert "Traceback" not in text
    status = run_status(str(out))
    assert 1 <= status.shards_done < 5
    assert not (out / ".scratch").exists()
    run_here(captions, out)
    assert digests(out) == undisturbed


@pytest.mark.slow
def test_a_drain_without_time_stops_between_two_batches_on_ray(captions, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = started(captions, out, "--workers", 1, "--set", "runtime.drain_seconds=0")
    wait_for_records(out, 1, process)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=100)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert not list(out.glob(".scratch/*"))
    run_here(captions, out)
    assert digests(out) == undisturbed


def _ray_workers(driver):
    """The processes below the driver that may hold a pipeline or a shard; agents do not."""
    parents, names = {}, {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            names[pid] = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
    found, new = set(), {driver}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    workers = {pid for pid in found if names[pid].startswith("ray::")}
    return {pid for pid in workers if "Agent" not in names[pid]}


def _wait_for_end(processes):
    """Ray's workers end by themselves when the driver that started Ray is gone."""
    deadline = time.monotonic() + 30
    while living := [pid for pid in processes if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"{living} outlive their driver"
        time.sleep(0.1)
