"""``verify``, ``repair`` and ``replay`` as commands: exit codes, what stands on which stream."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.command_line import ovamgen, ovamgen_alone
from tests.integrity.corruption import files_of


def test_verify_says_0_or_4_and_repair_asks_before_it_removes(out):
    done = ovamgen("verify", out, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["ok"] is True
    (out / "notes.txt").write_text("mine")
    done = ovamgen("verify", out)
    assert done.returncode == 4
    assert "orphan   notes.txt" in done.stdout
    assert f"run: ovamgen repair {out} --gc" in done.stdout
    assert "not as it must be: 1 finding; " in done.stderr
    done = ovamgen("repair", out, "--gc")
    assert done.returncode == 2
    assert "give --yes" in done.stderr
    done = ovamgen("repair", out, "--gc", "--yes")
    assert done.returncode == 0
    assert "removed        notes.txt" in done.stdout
    done = ovamgen("repair", out, "--yes")
    assert done.returncode == 0, "there is nothing to ask: --yes does no harm"


def test_an_unfinished_run_is_not_verified_and_says_what_finishes_it(out):
    for name in ("manifest.json", "index.json", "README.md", "manifests/000001.json"):
        (out / name).unlink()
    done = ovamgen("verify", out, "--json")
    assert done.returncode == 4
    told = json.loads(done.stdout)
    assert (told["state"], told["ok"], told["findings"]) == ("unfinished", False, [])
    assert told["shards_without_record"] == [1]
    assert f"run: ovamgen repair {out}" in done.stderr


def test_replay_of_an_unknown_key_names_the_range(out):
    done = ovamgen("replay", out, "123")
    assert (done.returncode, done.stdout) == (2, "")
    assert "keys go from 00000000000 to 00000200005" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_embedded_model_from_end_to_end(tmp_path):
    out = tmp_path / "corpus"
    run = ["--model", "mini", "--steps", 4, "--shard-size", 5, "--set", "runtime.runner=local"]
    made = ovamgen_alone("generate", "--captions", "demo", "--limit", 12, *run, "--out", out)
    assert made.returncode == 0, made.stderr
    whole = files_of(out)
    done = ovamgen_alone("replay", out, "00000100002", "--json", "--out", tmp_path / "both")
    values = json.loads(done.stdout)
    assert (values["image_max_abs_diff"], values["mask_pixels_different"]) == (0, 0)
    assert values["members_equal"] is True
    (out / "train-000001.tar").write_bytes(whole["train-000001.tar"][:-1])
    (out / "plan.parquet").unlink()
    assert ovamgen_alone("verify", out).returncode == 4
    done = ovamgen_alone("repair", out, "--set", "runtime.runner=local", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["shards_made"] == [1]
    assert files_of(out) == whole
    for name in ("manifests/000000.json", "manifests/000002.json", "manifest.json"):
        (out / name).unlink()
    assert ovamgen_alone("repair", out).returncode == 0, "on Ray"
    assert files_of(out) == whole


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_ends_verify_and_leaves_no_process(out):
    # a tar of zeros that takes minutes to read
    path = out / "train-000001.tar"
    with path.open("r+b") as file:
        file.truncate(40 * 1024**3)
    process = subprocess.Popen(
        [sys.executable, "-m", "ovamgen", "verify", str(out), "--jobs", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(10)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    deadline = time.monotonic() + 60
    while _lives(process.pid):
        assert time.monotonic() < deadline, "a process goes on"
        time.sleep(0.2)


def _lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
