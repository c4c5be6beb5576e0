"""Every step of a run in one process, killed, delayed, stopped: the bytes of an undisturbed run."""

import random
import signal
import time

import pytest

from ovamgen.status.status import run_status
from ovamgen.storage.store import open_store
from tests.faults.command import Command
from tests.faults.table import STEPS, STEPS_OF_CHANGES
from tests.runs import run_config

KILLED = -signal.SIGKILL


def config_of(folder, **runtime):
    return run_config(folder, runtime={"runner": "local"} | runtime)


def finish(config, folder):
    """The same command again, until nothing is left to do."""
    again = Command(config, folder / "again.log")
    assert again.end() == 0, again.text
    return again


def left_over(out):
    return [path.name for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("step", "passing"),
    [
        pytest.param("run.plan_put", 1, marks=pytest.mark.slow),
        ("tar.sample_added", 12),
        pytest.param("shard.tar_published", 2, marks=pytest.mark.slow),
        pytest.param("shard.metadata_put", 3, marks=pytest.mark.slow),
        ("local.record_linked", 2),
        ("index.manifest_put", 1),
    ],
)
def test_kill_9_at_a_step(matrix, tmp_path, step, passing):
    config = config_of(tmp_path)
    command = Command(config, tmp_path / "log", faults=f"{step}:kill:{passing}")
    assert command.end() == KILLED, command.text
    finish(config, tmp_path)
    assert not left_over(tmp_path / "out")
    matrix.check(tmp_path / "out", order=1, fault="kill -9, one process", where=STEPS[step])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "step", [step for step in STEPS if not step.startswith(("driver.", "remote."))]
)
def test_kill_9_at_every_passing_of_a_step(matrix, tmp_path, step):
    for passing in range(1, 1000):
        folder = tmp_path / str(passing)
        folder.mkdir()
        config = config_of(folder)
        command = Command(config, folder / "log", faults=f"{step}:kill:{passing}")
        if (code := command.end()) == 0:
            break
        assert code == KILLED, command.text
        finish(config, folder)
        assert not left_over(folder / "out")
        matrix.check(folder / "out", order=1, fault="kill -9, one process", where=STEPS[step])
    assert passing > 1, "the step is never reached"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("step", "finished", "mistaken", "wanted"),
    [
        ("run.run_file_removed", 0, 5, 15),
        ("run.indexes_removed", 5, 0, 15),
        ("run.generation_removed", 5, 22, 15),
    ],
)
def test_kill_9_while_another_configuration_takes_over(
    matrix, tmp_path, step, finished, mistaken, wanted
):
    """Numbers are of samples: of a finished run, of one that only began, and of the last one."""
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"

    def end_of(folder, limit, faults=""):
        folder.mkdir(exist_ok=True)
        config = run_config(folder, runtime={"runner": "local"}, plan={"limit": limit})
        extend = bool(finished) and limit != finished
        command = Command(config, folder / "log", faults=faults, extend=extend)
        return command.end()

    for folder in (undisturbed, disturbed):
        assert not finished or end_of(folder, finished) == 0
    assert end_of(undisturbed, wanted) == 0
    assert not mistaken or end_of(disturbed, mistaken, "run.run_file_put:kill") == KILLED
    assert end_of(disturbed, wanted, f"{step}:kill") == KILLED
    assert end_of(disturbed, wanted) == 0
    matrix.check(
        disturbed / "out",
        reference=undisturbed / "out",
        order=1,
        fault="kill -9, one process",
        where=STEPS_OF_CHANGES[step],
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_of_every_attempt_one_file_later(matrix, tmp_path):
    """The same command again and again; each attempt dies when it has made one file more."""
    config, deaths = config_of(tmp_path), 0
    while True:
        faults = f"local.renamed:kill:{deaths + 1}"
        if (code := Command(config, tmp_path / "log", faults=faults).end()) == 0:
            break
        assert code == KILLED
        deaths += 1
    assert deaths > 3
    assert not left_over(tmp_path / "out")
    matrix.check(
        tmp_path / "out",
        order=1,
        fault="kill -9, one process",
        where="of every attempt, each one file later",
        times=deaths,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_at_20_random_times(matrix, tmp_path):
    times, deaths = random.Random(20261122), 0
    while deaths < 20:
        folder = tmp_path / f"{deaths}-{times.random()}"
        folder.mkdir()
        config = config_of(folder)
        command = Command(config, folder / "log", batch_seconds=0.1)
        time.sleep(times.uniform(0.05, 1.2))
        command.process.kill()
        if command.end() == 0:
            continue
        deaths += 1
        finish(config, folder)
        assert not left_over(folder / "out")
        matrix.check(
            folder / "out", order=2, fault="kill -9, one process", where="at a random time"
        )


@pytest.mark.parametrize(("drain", "done"), [(0, 0), (60, 1)])
def test_sigterm(matrix, tmp_path, drain, done):
    config = config_of(tmp_path, drain_seconds=drain)
    command = Command(config, tmp_path / "log", faults="batch.begun:term:2")
    assert command.end() == 128 + signal.SIGTERM, command.text
    assert "SIGTERM: finishing the open shards" in command.text
    assert run_status(config.out).shards_done == done
    assert not left_over(tmp_path / "out")
    finish(config, tmp_path)
    matrix.check(
        tmp_path / "out",
        order=5,
        fault=f"SIGTERM, {drain} s to drain, one process",
        where=STEPS["batch.begun"],
    )


@pytest.mark.parametrize(
    ("step", "passing"),
    [("tar.sample_added", 12), pytest.param("tar.begun", 1, marks=pytest.mark.slow)],
)
def test_a_full_disk_as_the_tar_is_written(matrix, tmp_path, step, passing):
    config = config_of(tmp_path)
    command = Command(config, tmp_path / "log", faults=f"{step}:raise=ENOSPC:{passing}")
    assert command.end() == 1, command.text
    assert "No space left on device; check the space" in command.text
    assert not left_over(tmp_path / "out")
    finish(config, tmp_path)
    matrix.check(tmp_path / "out", order=6, fault="disk full (ENOSPC)", where=STEPS[step])


def test_a_command_that_is_killed_while_it_holds_the_output_blocks_nobody(tmp_path):
    config = config_of(tmp_path)
    slow = Command(config, tmp_path / "log", faults="shard.tar_closed:sleep=100")
    scratch = tmp_path / "out" / ".scratch"
    deadline = time.monotonic() + 60
    while not list(scratch.glob("*/train-000000.tar")):
        assert time.monotonic() < deadline, slow.text
        time.sleep(0.01)
    second = Command(config, tmp_path / "second.log")
    assert second.end() == 2
    assert "another run is writing to" in second.text
    slow.process.kill()
    assert slow.end() == KILLED
    assert open_store(config.out).holder() is None
    finish(config, tmp_path)
