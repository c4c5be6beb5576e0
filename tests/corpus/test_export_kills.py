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
    """SIGKILL in the first shard, between two, at the end; each time the same files in the end."""
    store, _ = write_corpus(tmp_path / "run", (60,) * 6, patchwork_samples, classes=FEW)
    subprocess.run(command(kind, store.url, tmp_path / "whole"), check=True, capture_output=True)
    wanted = digests(tmp_path / "whole")
    stages = set()
    for number in (0, 2, 5, 6):
        out = tmp_path / f"killed-{number}"
        process = subprocess.Popen(
            command(kind, store.url, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # what is done decides the moment, not the clock: other work may hold the process up
        parts = out / ".parts"
        while process.poll() is None:
            done = len([p for p in parts.iterdir() if p.name.isdigit()]) if parts.is_dir() else 0
            if done >= number:
                break
            time.sleep(0.002)
        time.sleep(0.004 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        stages.add((out / "INCOMPLETE.json").exists())
        subprocess.run(command(kind, store.url, out), check=True, capture_output=True)
        assert digests(out) == wanted
    assert True in stages


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """500 samples, and 12,000."""
    root = tmp_path_factory.mktemp("corpora")
    return [
        write_corpus(root / str(shards), (500,) * shards, quick_samples, failures=0)[0].url
        for shards in (1, 24)
    ]


@pytest.mark.parametrize("kind", COMMANDS)
def test_memory_does_not_grow_with_the_corpus(corpora, tmp_path, kind):
    """Resident memory of the command at its peak."""
    peaks = []
    for number, url in enumerate(corpora):
        code = (
            "import sys\nfrom pathlib import Path\nfrom ovamgen.cli.app import app\n"
            "app(sys.argv[1:], standalone_mode=False)\n"
            # not getrusage, which counts what the parent had before this program was begun
            "status = Path('/proc/self/status').read_text()\n"
            "print('peak', status.partition('VmHWM:')[2].split()[0])\n"
        )
        words = command(kind, url, tmp_path / str(number))[3:]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout.split()[-1]))
    print(f"\n{kind}: peak resident memory {peaks[0]} kB, {peaks[1]} kB")
    # 65 MB were exported more
    assert peaks[1] < peaks[0] + 32_000, peaks
