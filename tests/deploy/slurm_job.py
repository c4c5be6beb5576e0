"""A job of `deploy/slurm.sbatch` as Slurm would run it, under stand-ins for Slurm's programs."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "deploy" / "slurm.sbatch"
PROGRAMS = Path(__file__).with_name("slurm_programs.py")
MARK = "OVAMGEN_TEST_JOB"
"""A variable of all processes of a job, by which they are found wherever they went."""


class SlurmJob:
    """One job, attempt by attempt; the time limit's signal and the queue are the caller's."""

    def __init__(self, folder: Path, *, nodes: int = 2, lead: int = 60, **settings: object) -> None:
        """``settings`` are the script's variables; ``lead`` stands in its ``--signal``."""
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.log = folder / "ovamgen-7.out"
        self.job_folder = folder / "ovamgen-job-7"
        # Ray's sockets are below it, and their paths may have a hundred characters
        self.node_folder = Path(tempfile.mkdtemp(prefix="nodes-"))
        self._script = folder / "slurm_script"
        text, changed = re.subn(r"(B:USR1@)\d+", rf"\g<1>{lead}", SCRIPT.read_text())
        assert changed == 1
        self._script.write_text(text)
        programs = folder / "programs"
        programs.mkdir()
        for name in ("srun", "scontrol"):
            file = programs / name
            file.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROGRAMS}" {name} "$@"\n')
            file.chmod(0o755)
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        slurm = {
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": f"n[1-{nodes}]",
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_MEM_PER_NODE": "1000",
            # Slurm sets it for every batch job
            "ENVIRONMENT": "BATCH",
        }
        self._environment = (
            os.environ
            | {"PATH": path, "PYTHONPATH": str(REPOSITORY), "SLURM_STAND_IN": str(folder)}
            | {MARK: self.mark, "NODE_FOLDER": str(self.node_folder)}
            | slurm
            | {name: str(value) for name, value in settings.items()}
        )
        self.attempts = 0

    @contextmanager
    def attempt(self, *words: object) -> Iterator[subprocess.Popen]:
        """The next attempt while it goes on; it is killed if it is still there at the end."""
        restarts = {"SLURM_RESTART_COUNT": str(self.attempts)} if self.attempts else {}
        self.attempts += 1
        with self.log.open("a") as log:
            process = subprocess.Popen(
                ["bash", str(self._script), *map(str, words)],
                cwd=self.folder,
                env=self._environment | restarts,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for left in self.processes():
                left.kill()

    def run(self, *words: object, seconds: float = 400) -> int:
        """Another attempt from its beginning to its end; the exit code."""
        with self.attempt(*words) as process:
            return self.end_of(process, seconds)

    def end_of(self, process: subprocess.Popen, seconds: float = 400) -> int:
        """The exit code of an attempt, of which nothing may be left."""
        code = process.wait(seconds)
        assert self.processes() == [], self.text()
        left = sorted(self.node_folder.rglob("*"))
        assert left == [], (left, self.text())
        assert not (self.job_folder / "token").exists()
        return code

    def wait_until(
        self, what: Callable[[], object], process: subprocess.Popen, seconds: float = 400
    ) -> None:
        """Until that is true, while the attempt goes on."""
        deadline = time.monotonic() + seconds
        while not what():
            assert process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)

    def driver(self) -> psutil.Process | None:
        """The process of ``ovamgen generate``."""
        for process in self.processes():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if "generate" in words and any(word.endswith("ovamgen") for word in words):
                return process
        return None

    def processes(self) -> list[psutil.Process]:
        """Every process of the job."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def text(self) -> str:
        """What the job wrote."""
        return self.log.read_text() if self.log.exists() else ""

    def calls(self, program: str) -> list[dict]:
        """What the stand-in was called with, in order."""
        file = self.folder / "calls.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [call for call in map(json.loads, lines) if call["program"] == program]

    @property
    def requeues(self) -> int:
        """Times that the job was put back into the queue."""
        return len([call for call in self.calls("scontrol") if call["requeued"] == "7"])


def signal_all(process: subprocess.Popen) -> None:
    """SIGTERM as ``scancel`` sends it: to the script and all that is of its process group."""
    os.killpg(process.pid, signal.SIGTERM)
