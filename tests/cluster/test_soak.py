"""A long run on Ray takes what a short one takes: nothing grows with the number of samples."""

import os
import threading
import time
from pathlib import Path

import pytest

from ovamgen.generation import generate
from ovamgen.storage.scratch import machine_folder
from tests.fakes import DiscEngine
from tests.runs import PROMPTS, run_config

SAMPLES = int(os.environ.get("OVAMGEN_SOAK_SAMPLES", "20000"))
LEAST_LOOKS = 40


class Watch(threading.Thread):
    """Looks at this process, the driver, and at what it shares with others, while a run goes on."""

    def __init__(self, out):
        super().__init__(daemon=True)
        self.out = out
        self.looks = []
        self.ended = threading.Event()

    def run(self):
        pause = 0.2
        while not self.ended.wait(pause):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.looks.append(
                {
                    "memory, MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
                    "descriptors": len(os.listdir("/proc/self/fd")),
                    "threads": threading.active_count(),
                    "attempts": len([*(self.out / ".scratch").glob("*")]),
                    "files in shared memory": len(os.listdir("/dev/shm")),
                }
            )
            pause = max(0.2, 0.001 * len(self.looks))


ALLOWED = {
    "memory, MB": 60,
    "descriptors": 16,
    "threads": 8,
    "attempts": 8,
    "files in shared memory": 8,
}
"""How much more the last third may take than the middle one, at their medians."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_grows_with_the_number_of_samples(tmp_path):
    config = run_config(
        tmp_path,
        texts=[PROMPTS[i % len(PROMPTS)] for i in range(SAMPLES)],
        plan={"shard_size": 200, "batch_size": 20},
        runtime={"workers": 2},
        masks={"crf": {"enabled": False}},
    )
    left_before = {*machine_folder("scratch").iterdir()}
    watch = Watch(tmp_path / "out")
    watch.start()
    begin = time.monotonic()
    outcome = generate(config, DiscEngine)
    watch.ended.set()
    watch.join()
    seconds = time.monotonic() - begin
    assert (outcome.summary.samples, outcome.summary.failed) == (SAMPLES, 0)
    assert len(watch.looks) >= LEAST_LOOKS, "too short to tell"
    third = len(watch.looks) // 3
    middle, last = (
        {name: sorted(look[name] for look in part)[third // 2] for name in ALLOWED}
        for part in (watch.looks[third : 2 * third], watch.looks[-third:])
    )
    print(f"{SAMPLES} samples in {seconds:.0f} s, the middle third: {middle}, the last: {last}")
    grown = {name: last[name] - middle[name] for name in ALLOWED}
    assert {name: by for name, by in grown.items() if by > ALLOWED[name]} == {}
    assert not (tmp_path / "out" / ".scratch").exists()
    assert {*machine_folder("scratch").iterdir()} <= left_before
    assert not [*tmp_path.rglob("*.tmp")]
