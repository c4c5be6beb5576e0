"""`ovamgen export` as a process: killed at any moment and begun again, and its memory."""

import signal
import subprocess
import sys
import time

import pytest

from tests.corpus.corpora import FEW, patchwork_samples, quick_samples, write_corpus
from tests.runs import digests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COMMANDS = {
    "voc": [],
    "coco": [],
    "coco-panoptic": ["--form", "panoptic"],
    "ultralytics": ["--form", "polygons"],
    "cvat": [],
    "parquet": ["--overlay"],
    "labelstudio": [],
}


def command(kind, source, out):
    name = kind.partition("-")[0]
    return [
        *(sys.executable, "-m", "ovamgen", "export", name, str(source), "--out", str(out)),
        *COMMANDS[kind],
    ]


@pytest.mark.parametrize("kind", COMMANDS)
def test_killed_at_any_moment_and_begun_again(tmp_path, kind):
    """SIGKILL at moments spread over the whole work; each time the same files in the end."""
    store, _ = write_corpus(tmp_path / "run", (60,) * 6, patchwork_samples, classes=FEW)
    subprocess.run(command(kind, store.url, tmp_path / "whole"), check=True, capture_output=True)
    wanted = digests(tmp_path / "whole")
    stages = set()
    for number in range(8):
        out = tmp_path / f"killed-{number}"
        process = subprocess.Popen(
            command(kind, store.url, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # what is done decides the moment, not the clock: other work may hold the process up
        parts = out / ".parts"
        while process.poll() is None:
            done = len([p for p in parts.iterdir() if p.name.isdigit()]) if parts.is_dir() else 0
            if done >= min(number, 6):
                break
            time.sleep(0.002)
        time.sleep(0.03 * number / 8)
        process.send_signal(signal.SIGKILL)
        process.wait()
        stages.add((out / "INCOMPLETE.json").exists())
        subprocess.run(command(kind, store.url, out), check=True, capture_output=True)
        assert digests(out) == wanted
    assert True in stages


@pytest.mark.parametrize("kind", COMMANDS)
def test_memory_of_the_command_with_many_samples(tmp_path, kind):
    """Resident memory at its peak: 1,000 samples against 20,000."""
    peaks = []
    for name, shards in (("small", 1), ("large", 20)):
        store, _ = write_corpus(tmp_path / name, (1000,) * shards, quick_samples, failures=0)
        code = (
            "import sys\nfrom pathlib import Path\nfrom ovamgen.cli.app import app\n"
            "app(sys.argv[1:], standalone_mode=False)\n"
            # not getrusage, which counts what the parent had before this program was begun
            "status = Path('/proc/self/status').read_text()\n"
            "print('peak', status.partition('VmHWM:')[2].split()[0])\n"
        )
        words = command(kind, store.url, tmp_path / f"{name}-out")[3:]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout.split()[-1]))
    print(f"\n{kind}: peak resident memory {peaks[0]} kB, {peaks[1]} kB")
    # about 100 MB were exported more
    assert peaks[1] < peaks[0] + 48_000, peaks
