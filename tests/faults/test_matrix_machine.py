"""A machine that works against a run: full disks, folders that may not be written, wrong clocks."""

import shutil
import signal
import subprocess
from importlib import util
from pathlib import Path

import pytest

from ovamgen.fault_points import FAULTS
from tests.faults.command import Command, arguments, environment
from tests.runs import run_config

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def own_mounts():
    """``unshare`` and its options: a shell whose mounts nobody else sees, and that end with it."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc"]
    trial = [*command, "mount -t tmpfs tmpfs /mnt"]
    if not shutil.which("unshare") or subprocess.run(trial, capture_output=True).returncode:
        pytest.skip("mounting needs user namespaces, and this machine does not allow them")
    return command


def in_mounts(own_mounts, script, config, folder, repository):
    """The exit codes and the texts of the commands in a shell script, in which $RUN is the run.

    The script mounts what $OUT is to be, and in the end copies it to $KEPT.
    """
    for name in ("out", "kept"):
        (folder / name).mkdir()
    names = {
        "RUN": " ".join(arguments(config, folder)),
        "OUT": str(folder / "out"),
        "KEPT": str(folder / "kept"),
    }
    done = subprocess.run(
        [*own_mounts, script],
        cwd=repository,
        env=environment(repository, names),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize("kib", [16, 64, 104])
def test_a_full_disk(matrix, own_mounts, tmp_path, repository, kib):
    config = run_config(tmp_path, runtime={"runner": "local"})
    script = f"""
        mount -t tmpfs -o size={kib}k tmpfs "$OUT"
        code=0; $RUN || code=$?; echo "first: $code"
        mount -o remount,size=16m "$OUT"
        $RUN
        cp -a "$OUT/." "$KEPT"
    """
    done = in_mounts(own_mounts, script, config, tmp_path, repository)
    assert "first: 1" in done.stdout
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    kept = tmp_path / "kept"
    matrix.check(kept, order=6, fault="disk full (a small tmpfs)", where=f"after {kib} KiB")


@pytest.mark.slow
def test_a_folder_that_becomes_read_only(matrix, own_mounts, tmp_path, repository):
    """After the first shard: root ignores permissions, so the mount itself is made read-only."""
    config = run_config(tmp_path, runtime={"runner": "local"})
    script = """
        mount -t tmpfs tmpfs "$OUT"
        code=0; OVAMGEN_FAULT_POINTS=write.begun:kill:2 $RUN || code=$?; echo "first: $code"
        mount -o remount,ro "$OUT"
        code=0; $RUN || code=$?; echo "second: $code"
        mount -o remount,rw "$OUT"
        $RUN
        cp -a "$OUT/." "$KEPT"
    """
    done = in_mounts(own_mounts, script, config, tmp_path, repository)
    assert "first: 137" in done.stdout
    assert "second: 2" in done.stdout
    assert "Read-only file system; give a folder that may be written to" in done.stderr
    kept = tmp_path / "kept"
    matrix.check(kept, order=7, fault="output read-only", where="between two attempts")


@pytest.mark.slow
def test_a_file_that_may_not_grow(matrix, tmp_path, repository):
    config = run_config(tmp_path, runtime={"runner": "local"})
    command = ["sh", "-c", 'ulimit -f 40; exec "$@"', "sh", *arguments(config, tmp_path)]
    done = subprocess.run(
        command,
        cwd=repository,
        env=environment(repository, {}),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    again = Command(config, tmp_path / "again.log")
    assert again.end() == 0, again.text
    matrix.check(tmp_path / "out", order=6, fault="file size limit", where="as a tar is written")


@pytest.fixture(scope="module")
def faketime():
    """The library that changes what a process takes for the time of day."""
    found = util.find_spec("libfaketime")
    if found is None or found.origin is None:
        pytest.skip("clocks are set with libfaketime: pip install libfaketime")
    (library,) = Path(found.origin).parent.rglob("libfaketime.so.1")
    return str(library)


@pytest.mark.slow
def test_a_clock_that_goes_backwards(matrix, faketime, tmp_path, repository):
    """A year back with every attempt, and a day back at each shard of the last one."""
    config = run_config(tmp_path, runtime={"runner": "local"})
    clock = tmp_path / "clock"
    variables = {
        "LD_PRELOAD": faketime,
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
    }
    for years, step in [(0, "shard.tar_published"), (1, "shard.metadata_put"), (2, "")]:
        clock.write_text(f"-{years * 365}d\n")
        faults = f"{step}:kill:1" if step else "shard.record_created:sleep=0.5:1"
        process = subprocess.Popen(
            arguments(config, tmp_path, 0.1),
            cwd=repository,
            env=environment(repository, variables | {FAULTS: faults}),
            stderr=subprocess.PIPE,
            text=True,
        )
        if not step:
            while process.poll() is None and not list(tmp_path.glob("out/manifests/*.json")):
                pass
            clock.write_text("-1100d\n")
        _, text = process.communicate(timeout=200)
        assert process.returncode == (-signal.SIGKILL if step else 0), text
    matrix.check(
        tmp_path / "out",
        order=8,
        fault="clock going backwards",
        where="between attempts (years) and within one (months)",
        times=3,
    )
