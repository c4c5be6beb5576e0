"""``ovamgen bench`` without a command."""

import json
import os
import subprocess
import sys

import pytest


def bench(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ovamgen", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_json_stands_behind_the_command():
    done = bench("--json", "attention")
    assert (done.returncode, done.stdout) == (2, "")
    assert "behind the command" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_attention_and_stages_of_the_embedded_model():
    done = bench("--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["attention"]["map_bytes_per_image"] < 60e6
    assert found["attention"]["sink_bytes"][0] == found["attention"]["sink_bytes"][1]
    stages = {row["stage"] for row in found["stages"]["stages"]}
    assert {"synthesis", "dense CRF", "publish"} <= stages
    assert found["stages"]["images_per_second"] > 0


@pytest.mark.slow
def test_few_steps_are_faster_than_many():
    done = bench("steps", "--batch-size", "1", "--rounds", "2", "--json")
    assert done.returncode == 0, done.stderr
    ways = {row["way"]: row for row in json.loads(done.stdout)["ways"]}
    assert list(ways) == ["30 steps", "4 steps", "4 steps and a probe"]
    # 31 calls of two halves against 4 of one: whatever the machine does, the ratio shows it
    assert ways["4 steps"]["faster"]["median"] > 2
