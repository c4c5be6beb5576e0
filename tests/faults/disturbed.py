"""Commands of ovamgen in processes whose file operations are counted, refused or cut short.

`Disturber` holds a server that has imported everything once, with ``shim.c`` loaded before libc;
each attempt is forked off it. As a program, this module is that server.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.command_line import exit_code_of

KINDS = {"nothing": 0, "kill": 1, "full": 2, "read-only": 3, "log": 4}
"""As `shim.c` numbers them."""
_LIMIT_SECONDS = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of a command."""

    code: int
    """Exit code, negative for a signal."""
    said: str
    count: int
    """File operations, or bytes written, as the shim counted them; 0 of one that was killed."""

    @property
    def is_clear(self) -> bool:
        """One line, and a declared exit code."""
        told = [line for line in self.said.splitlines() if line.startswith("ovamgen: ")]
        return self.code in (1, 2, 3, 4) and len(told) == 1 and "Traceback" not in self.said


class Disturber:
    """Runs commands with faults; a context manager."""

    def __init__(self, library: Path, repository: Path) -> None:
        """``library`` is what `build_shim` made."""
        own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        own |= {"PYTHONPATH": str(repository), "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=repository,
            env=own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Disturber:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        # it has nothing to put in order, and torch takes its time to leave
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def start(
        self, arguments: Sequence[str], world: Path, kind: str, limit: int, watched: str, log: str
    ) -> int:
        """The process of a command that was begun.

        Args:
            arguments: what follows ``ovamgen``; or the name of a function here.
            world: the current folder of the command.
            kind: of `KINDS`.
            limit: operations before the one that kills, or bytes that the disk takes.
            watched: the folder in which operations count.
            log: where operations are written down; "" for nowhere.
        """
        asked = {"arguments": [*arguments], "world": str(world), "kind": KINDS[kind]}
        asked |= {"limit": limit, "watched": str(world / watched), "log": log}
        return int(self._ask(asked)["process"])

    def wait(self, process: int, world: Path) -> Attempt:
        """What came of it."""
        code = int(self._ask({"wait": process})["code"])
        said, count = world / f"said-{process}", world / f"count-{process}"
        attempt = Attempt(
            code=code,
            said=said.read_text("utf-8", "replace"),
            count=int(count.read_text()) if count.exists() else 0,
        )
        said.unlink()
        count.unlink(missing_ok=True)
        return attempt

    def _ask(self, asked: dict[str, object]) -> dict[str, object]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer: dict[str, object] = json.loads(self._process.stdout.readline())
        return answer


def build_shim(folder: Path) -> Path | None:
    """The library made of ``shim.c``; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(library), "-ldl"], check=True
    )
    return library


def save_annotation(world: Path) -> None:
    """The annotation of a sample, replaced as the painting server does it."""
    import numpy as np

    from ovamgen.annotate.annotations import Annotations
    from ovamgen.pictures.sample_folder import SampleFolder

    folder = SampleFolder.open(world / "samples")
    annotations = Annotations(folder)
    (sample,) = folder.samples
    mask = np.zeros(annotations.size(sample), bool)
    mask[2:9, 3:11] = True
    annotations.save(sample, mask, annotations.version(sample))


FUNCTIONS: dict[str, Callable[[Path], None]] = {"annotate save": save_annotation}
"""Commands that are no commands of the command line, by name."""


def _attempt(asked: dict[str, str], shim: ctypes.CDLL, loaded: int) -> None:
    """In the forked process, which tells what it has loaded in a file; does not return."""
    world, process = Path(asked["world"]), os.getpid()
    said = os.open(world / f"said-{process}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.close(0)
    os.chdir(world)
    code = 1
    shim.shim_arm(asked["kind"], asked["limit"], asked["watched"].encode(), asked["log"].encode())
    try:
        code = _run(list(asked["arguments"]), world)
    except BaseException:
        traceback.print_exc()
    count = shim.shim_count()
    sys.stdout.flush()
    (world / f"count-{process}").write_text(str(count))
    os.write(loaded, " ".join(sys.modules).encode())
    os._exit(code)


def _run(arguments: list[str], world: Path) -> int:
    function = FUNCTIONS.get(arguments[0])
    return exit_code_of(partial(function, world) if function else arguments)


def _import_everything() -> None:
    import ovamgen.annotate.importing
    import ovamgen.corpus.export.coco
    import ovamgen.corpus.export.cvat
    import ovamgen.corpus.export.hf
    import ovamgen.corpus.export.label_studio
    import ovamgen.corpus.export.parquet
    import ovamgen.corpus.export.ultralytics
    import ovamgen.corpus.export.voc
    import ovamgen.corpus.reannotate
    import ovamgen.heads.command
    import ovamgen.integrity.repair
    import ovamgen.report.write
    import ovamgen.segmentor.training
    import ovamgen.tokens.banks
    import ovamgen.tokens.optimise  # noqa: F401
    from ovamgen.run import local
    from tests.fakes import DiscEngine

    # what `repair` makes again is drawn by the engine that the corpus is of
    local.load_engine_factory = lambda: DiscEngine  # type: ignore[attr-defined]


def main() -> None:
    """Begins and ends attempts, as the lines on stdin say."""
    shim = ctypes.CDLL(None)
    shim.shim_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p]
    shim.shim_count.restype = ctypes.c_long
    _import_everything()
    loaded: dict[int, int] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            process = asked["wait"]
            answer = {"code": _wait(process)}
            _load(loaded.pop(process))
        else:
            file = os.memfd_create("loaded")
            process = os.fork()
            if not process:
                _attempt(asked, shim, file)
            loaded[process] = file
            answer = {"process": process}
        print(json.dumps(answer), flush=True)


def _load(file: int) -> None:
    """Imports what an attempt had to, so that the next ones need not."""
    with open(file) as names:
        names.seek(0)
        for name in names.read().split():
            if name not in sys.modules and not name.startswith("tests."):
                with suppress(Exception):
                    importlib.import_module(name)


def _wait(process: int) -> int:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return 1000


if __name__ == "__main__":
    main()
