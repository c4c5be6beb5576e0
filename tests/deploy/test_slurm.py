"""`deploy/slurm.sbatch` on a real Ray of two nodes, under stand-ins for Slurm's programs."""

import re
import shutil
import signal
import stat
import subprocess

import pytest
import yaml

from tests.command_line import ovamgen
from tests.deploy.slurm_job import SCRIPT, SlurmJob, signal_all
from tests.runs import digests

CONFIGURATION = {
    "plan": {"captions": "demo", "shard_size": 3, "batch_size": 3, "limit": 24, "seed": 7},
    "model": {"id": "mini"},
    "synthesis": {"steps": 6},
    # few shards are finished by a drain, and some are left for the next attempt
    "runtime": {"open_shards": 2},
}


@pytest.fixture
def new_job(tmp_path):
    jobs = []

    def make(configuration=CONFIGURATION, **options):
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(configuration))
        settings = {"CONFIG": file, "OUT": tmp_path / "out", "DRAIN_SECONDS": 25}
        jobs.append(SlurmJob(tmp_path, **settings | options))
        return jobs[-1]

    yield make
    for job in jobs:
        shutil.rmtree(job.node_folder)


@pytest.fixture(scope="module")
def setting():
    """The settings' defaults that are numbers, by name, and LEAD: the seconds of ``--signal``."""
    text = SCRIPT.read_text()
    found = re.findall(r"^(\w+)=\$\{\1:-(\d+)\}$", text, re.MULTILINE)
    lead = re.search(r"^#SBATCH --signal=B:USR1@(\d+)$", text, re.MULTILINE)
    return {name: int(value) for name, value in found} | {"LEAD": int(lead[1])}


def records(job):
    return len(list((job.folder / "out" / "manifests").glob("*.json")))


def test_the_script_is_in_order(setting):
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    text = SCRIPT.read_text()
    header, body = text.split("set -euo pipefail")
    assert {"--requeue", "--open-mode=append"} <= set(re.findall(r"#SBATCH (\S+)", header))
    assert "\n#SBATCH" not in body, "sbatch reads none after the first command"
    assert set(setting) == {
        *("DRAIN_SECONDS", "STOP_SECONDS", "START_SECONDS", "IDLE_ATTEMPTS", "LEAD")
    }
    assert setting["DRAIN_SECONDS"] + setting["STOP_SECONDS"] < setting["LEAD"]


def test_ray_is_set_up_as_in_the_rayjob(repository):
    manifest = yaml.safe_load((repository / "deploy" / "rayjob.yaml").read_text())
    cluster = manifest["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    text = SCRIPT.read_text()
    assert f"export RAY_AUTH_MODE={cluster['authOptions']['mode']} " in text
    for variable in head["env"]:
        assert f"export {variable['name']}={variable['value']}\n" in text
    steps = {word.removeprefix("--set ") for word in re.findall(r"--set [\w.]+", text)}
    assert steps <= set(re.findall(r"runtime\.\w+", manifest["spec"]["entrypoint"]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"CONFIG": ""}, "CONFIG and OUT must be set"),
        ({"OUT": ""}, "CONFIG and OUT must be set"),
        ({"DRAIN_SECONDS": 31}, "USR1 comes 60 s before the time limit: expected more than"),
        ({"SETUP": "no-such-file"}, "cannot read SETUP, no-such-file"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_ray_is_started(new_job, settings, said):
    job = new_job(**settings)
    assert job.run(seconds=20) == 2
    assert job.text().startswith(f"slurm.sbatch: {said}")
    assert (job.calls("srun"), job.requeues) == ([], 0)
    assert not job.job_folder.exists()


def test_attempts_that_come_to_nothing_are_given_up(new_job):
    job = new_job(IDLE_ATTEMPTS=2)
    # a node where no Ray can be started
    broken = job.folder / "programs" / "ray"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert job.run(seconds=100) == 75
    assert job.requeues == 1
    assert (job.job_folder / "idle").read_text() == "1\n"
    assert job.run(seconds=100) == 75
    assert job.requeues == 1, "two attempts without a shard"
    assert "given up: attempts in a row without a finished shard: 2." in job.text()
    assert not job.job_folder.exists()


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_a_job_at_its_time_limit_is_drained_requeued_and_completed(new_job, tmp_path):
    job = new_job()
    words = ("--workers", 2)
    with job.attempt(*words) as process:
        job.wait_until(lambda: records(job) >= 1, process)
        token = job.job_folder / "token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert len(token.read_text().strip()) == 64
        process.send_signal(signal.SIGUSR1)
        job.end_of(process)
    text = job.text()
    assert "USR1: the time limit is near" in text
    assert "SIGTERM: finishing the open shards, at most 25 s" in text
    assert "ovamgen: stopped by SIGTERM" in text
    assert re.search(r" on n1 n2$", text, re.MULTILINE), "Ray was there on both nodes"
    done = records(job)
    assert 1 <= done < 8
    assert job.requeues == 1
    assert f"ended with 143 after attempt 1: 0 shards before, {done} now" in text
    head, workers = job.calls("srun")
    assert (head["nodes"], workers["nodes"]) == (["n1"], ["n2"])
    assert not {"RAY_AUTH_TOKEN"} & set(head["variables"]), "the file's token counts"
    assert job.run(*words) == 0
    assert f"({done} there already)" in job.text()
    assert job.text().endswith("slurm.sbatch: complete\n")
    assert job.requeues == 1
    assert not job.job_folder.exists()
    assert not [call for call in job.calls("srun") if "killed" in call], "Ray ended in order"
    alone = tmp_path / "alone"
    made = ovamgen(
        *("generate", "--config", tmp_path / "run.yaml", "--out", alone, "--runner", "local")
    )
    assert made.returncode == 0, made.stderr
    assert digests(tmp_path / "out") == digests(alone)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_a_driver_that_is_killed_is_requeued_until_nothing_comes_of_it(new_job):
    job = new_job(IDLE_ATTEMPTS=1)
    with job.attempt() as process:
        job.wait_until(lambda: records(job) >= 1, process)
        job.driver().kill()
        assert job.end_of(process) in (137, 143)  # the queue's own SIGTERM may come first
    assert job.requeues == 1, "a shard was finished"
    assert "ended with 137 after attempt 1: 0 shards before" in job.text()
    with job.attempt() as process:
        job.wait_until(job.driver, process)
        job.driver().kill()
        assert job.end_of(process) == 137
    assert job.requeues == 1
    assert "given up: attempts in a row without a finished shard: 1." in job.text()


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_what_another_attempt_would_not_mend_is_not_requeued_on_one_node(new_job):
    job = new_job(CONFIGURATION | {"synthesis": {"steps": 0}}, nodes=1)
    assert job.run() == 2
    assert re.search(r"slurm.sbatch: Ray at \S+ on n1$", job.text(), re.MULTILINE)
    assert [call["nodes"] for call in job.calls("srun")] == [["n1"]]
    assert "ovamgen: synthesis.steps" in job.text()
    assert "ended with 2, which another attempt would not mend" in job.text()
    assert job.requeues == 0


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_a_job_that_is_cancelled_stops_at_once_and_stays_out_of_the_queue(new_job):
    job = new_job()
    with job.attempt() as process:
        job.wait_until(lambda: "is ready" in job.text(), process)
        signal_all(process)
        assert job.end_of(process, seconds=60) == 143
    assert "cancelled: the same job, submitted again, goes on from here" in job.text()
    assert not [call for call in job.calls("srun") if "killed" in call], "Ray ended in order"
    assert job.requeues == 0
    assert not job.job_folder.exists()
