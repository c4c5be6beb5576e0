"""Processes of a run on Ray, killed at every step and at random times; drivers are real processes.

One Ray serves all drivers, as a cluster does: it outlives those that are killed.
"""

import contextlib
import json
import random
import signal
import subprocess
import time
from collections import Counter

import psutil
import pytest

from ovamgen.fault_points import FAULTS, MARKS, parse_faults
from ovamgen.status.status import run_status
from tests.faults.command import WORKERS, Command, arguments, environment
from tests.faults.table import STEPS
from tests.runs import run_config

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

COUNT = 60
"""Samples of these runs: eight shards, so that there are enough steps to die at."""
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed-60")
    config = run_config(folder, count=COUNT, runtime={"runner": "local"})
    command = Command(config, folder / "log")
    assert command.end() == 0, command.text
    return folder / "out"


class Driver:
    """The command on the Ray of the session, with faults in its driver and its workers."""

    def __init__(
        self, ray_session, repository, folder, *, faults="", once=True, seconds=0.0, **runtime
    ):
        """``once``: each fault happens in one process; else in every process that gets there."""
        self.folder = folder
        self.marks = folder / "marks"
        self.marks.mkdir(exist_ok=True)
        self.config = run_config(
            folder, count=COUNT, runtime={"workers": 2, "refine_images": 2} | runtime
        )
        self.repository = repository
        self.seconds = seconds
        variables = {"PYTHONPATH": str(repository), FAULTS: faults}
        if once:
            variables[MARKS] = str(self.marks)
        address = ray_session.get_runtime_context().gcs_address
        self.environment = environment(
            repository, variables | {"RAY_ADDRESS": address, WORKERS: json.dumps(variables)}
        )

    def start(self):
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                arguments(self.config, self.folder, self.seconds),
                cwd=self.repository,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def run(self):
        return self.start().wait(timeout=600)

    def finish(self):
        assert self.run() == 0, self.text

    @property
    def text(self):
        return (self.folder / "log").read_text()

    def happened(self, faults):
        """Those whose passing was reached, in this or another process."""
        return [f for f in parse_faults(faults) if (self.marks / f"{f.step}.{f.passing}").exists()]


def killed_at(*passings):
    return ";".join(f"{step}:kill:{passing}" for step, passing in passings)


def check_steps(matrix, driver, undisturbed, faults, *, order, fault):
    """Every fault has happened, each is a row; the output is that of an undisturbed run."""
    assert not list(driver.folder.glob("out/.*"))
    for one in parse_faults(faults):
        assert one in driver.happened(faults), f"{one} was never reached"
        matrix.check(
            driver.folder / "out",
            reference=undisturbed,
            order=order,
            fault=fault,
            where=STEPS[one.step],
        )


def test_kill_9_of_writers_and_workers(matrix, ray_session, repository, undisturbed, tmp_path):
    """The run repairs itself; the same command then finds nothing to do."""
    faults = killed_at(("batch.begun", 4), ("shard.tar_published", 2))
    driver = Driver(ray_session, repository, tmp_path, faults=faults)
    driver.finish()
    assert "died: starting another" in driver.text
    check_steps(matrix, driver, undisturbed, faults, order=3, fault="kill -9, process on Ray")


@pytest.mark.slow
def test_kill_9_of_the_writer_at_each_step(matrix, ray_session, repository, undisturbed, tmp_path):
    steps = [step for step in STEPS if step.startswith(("write.", "tar.", "shard."))]
    faults = killed_at(*((step, passing) for step in steps for passing in (2, 5)))
    driver = Driver(ray_session, repository, tmp_path, faults=faults)
    driver.finish()
    driver.finish()
    assert "every shard is there already" in driver.text
    check_steps(matrix, driver, undisturbed, faults, order=3, fault="kill -9, writer on Ray")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "faults"),
    [
        ("GPU worker", killed_at(("worker.loading", 2), *(("batch.begun", n) for n in (1, 6, 17)))),
        ("refine worker", killed_at(*(("refine.begun", n) for n in (1, 9, 20, 21)))),
    ],
)
def test_kill_9_of_workers_at_each_step(
    matrix, ray_session, repository, undisturbed, tmp_path, victim, faults
):
    driver = Driver(ray_session, repository, tmp_path, faults=faults)
    driver.finish()
    driver.finish()
    check_steps(matrix, driver, undisturbed, faults, order=3, fault=f"kill -9, {victim} on Ray")


@pytest.mark.slow
def test_kill_9_of_the_driver_at_each_step(matrix, ray_session, repository, undisturbed, tmp_path):
    """The same command again and again, each time killed one step later."""
    faults = killed_at(
        ("run.plan_put", 1),
        ("run.run_file_put", 1),
        ("driver.batch_given", 4),
        ("driver.shard_written", 1),
        ("driver.shard_written", 4),
        ("index.manifest_put", 1),
        ("index.wids_put", 1),
        ("run.indexes_put", 1),
        ("run.contact_sheet_put", 1),
    )
    driver = Driver(ray_session, repository, tmp_path, faults=faults)
    deaths = 0
    while (code := driver.run()) != 0:
        assert code == KILLED, driver.text
        deaths += 1
    assert deaths == len(parse_faults(faults))
    check_steps(matrix, driver, undisturbed, faults, order=3, fault="kill -9, driver on Ray")


@pytest.mark.slow
def test_kill_9_of_the_writer_at_every_attempt(
    matrix, ray_session, repository, undisturbed, tmp_path
):
    """No retry helps: the run ends with the reason, and goes on once the cause is gone."""
    faults = "shard.tar_closed:kill"
    driver = Driver(ray_session, repository, tmp_path, faults=faults, once=False, workers=1)
    assert driver.run() == 1, driver.text
    assert "was lost 6 times" in driver.text
    Driver(ray_session, repository, tmp_path).finish()
    matrix.check(
        tmp_path / "out",
        reference=undisturbed,
        order=3,
        fault="kill -9, writer on Ray",
        where="tar closed, at every attempt until the run gives up",
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_9_of_anything_at_20_random_times(
    matrix, ray_session, repository, undisturbed, tmp_path
):
    """Driver, pipeline worker, refine worker or writer: a seeded choice among the living."""
    choice, total = random.Random(20261122), 0
    while total < 20:
        folder = tmp_path / str(total)
        folder.mkdir()
        driver = Driver(ray_session, repository, folder, seconds=0.4, crash_budget=100)
        killed = kill_at_random(driver, choice, 20 - total)
        driver.finish()
        assert not list(folder.glob("out/.*"))
        for name, times in sorted(killed.items()):
            matrix.check(
                folder / "out",
                reference=undisturbed,
                order=4,
                fault=f"kill -9, {name} on Ray",
                where="at a random time",
                times=times,
            )
        total += sum(killed.values())


def kill_at_random(driver, choice, most):
    """How many of each were killed until the run ended or ``most`` were."""
    killed: Counter[str] = Counter()
    process = driver.start()
    while killed.total() < most:
        time.sleep(choice.uniform(0.1, 1.0))
        if process.poll() is not None:
            if process.returncode == 0:
                break
            assert process.returncode == KILLED, driver.text
            process = driver.start()
            continue
        victims = sorted(working_processes(), key=lambda found: found[0].pid)
        if not victims:
            continue
        victim, name = choice.choice([*victims, (psutil.Process(process.pid), "driver")])
        victim.kill()
        killed[name] += 1
    else:
        process.wait(timeout=600)
    return killed


def working_processes():
    """The processes of the session's Ray that do a part of a run now, and what each is called."""
    names = {
        "ray::PipelineWorker": "GPU worker",
        "ray::refine_images": "refine worker",
        "ray::write_shard": "writer",
    }
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = "".join(process.cmdline()[:1])
            found += [(process, name) for start, name in names.items() if title.startswith(start)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("drain", [0, 120])
def test_sigterm(matrix, ray_session, repository, undisturbed, tmp_path, drain):
    faults = "driver.batch_given:term:6"
    driver = Driver(ray_session, repository, tmp_path, faults=faults, drain_seconds=drain)
    assert driver.run() == 128 + signal.SIGTERM, driver.text
    assert "SIGTERM: finishing the open shards" in driver.text
    assert not list(tmp_path.glob("out/.*"))
    done = run_status(driver.config.out).shards_done
    assert (done > 0) == (drain > 0)
    assert done < 8
    driver.finish()
    matrix.check(
        tmp_path / "out",
        reference=undisturbed,
        order=5,
        fault=f"SIGTERM, {drain} s to drain, driver on Ray",
        where=STEPS["driver.batch_given"],
    )
