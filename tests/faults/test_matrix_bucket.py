"""The same in a bucket of a real S3 server: killed between upload and record, and full."""

import signal

import pytest

from tests.faults.command import Command
from tests.faults.table import STEPS
from tests.runs import run_config
from tests.storage.faulty import Faults

# in test_state_machine.py processes die in a bucket every day
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def config_of(bucket, folder):
    config = run_config(folder, runtime={"runner": "local"})
    return config.model_copy(update={"out": bucket.url})


def copied(bucket, folder):
    """The objects of the output as files."""
    start = bucket.url.removeprefix(f"s3://{bucket.name}/") + "/"
    for key in bucket.names(start):
        path = folder / "copy" / key.removeprefix(start)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bucket.get(key))
    return folder / "copy"


def finish(config, folder):
    again = Command(config, folder / "again.log")
    assert again.end() == 0, again.text


@pytest.mark.parametrize(
    ("step", "passing"),
    [
        ("remote.uploaded", 1),
        ("remote.uploaded", 2),
        ("remote.uploaded", 4),
        ("tar.sample_added", 12),
        ("shard.tar_published", 2),
        ("shard.metadata_put", 3),
        ("remote.record_begun", 2),
        ("shard.record_created", 1),
        ("index.manifest_put", 1),
    ],
)
def test_kill_9_at_a_step(matrix, bucket, tmp_path, step, passing):
    config = config_of(bucket, tmp_path)
    command = Command(config, tmp_path / "log", faults=f"{step}:kill:{passing}")
    assert command.end() == -signal.SIGKILL, command.text
    finish(config, tmp_path)
    matrix.check(
        copied(bucket, tmp_path), order=9, fault="kill -9, output in S3", where=STEPS[step]
    )


@pytest.mark.parametrize("answer", ["507", "quota"])
def test_a_full_bucket(matrix, bucket, tmp_path, answer):
    config = config_of(bucket, tmp_path)
    with bucket.faulty(Faults(full_after_bytes=60_000, full_as=answer)):
        command = Command(config, tmp_path / "log")
        assert command.end() in (1, 2), command.text
    assert "Traceback" not in command.text
    assert "make room" in command.text or "quota" in command.text
    finish(config, tmp_path)
    matrix.check(copied(bucket, tmp_path), order=10, fault="bucket full", where=f"answers {answer}")
