"""One attack on one command, in a process of its own: what came of it, and what it took."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sys
import time
import traceback
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.command_line import exit_code_of
from tests.faults.command import SERVER
from tests.hostile.attack import Attack
from tests.hostile.commands import COMMANDS, Arguments
from tests.hostile.world import CODE_RAN, OUTSIDE, state_of

LIMIT_SECONDS = 10.0
"""Of processor time, so that a busy machine does not fail an attack."""
LIMIT_MIB = 1536
"""That a command may take more than a process that has imported everything."""
WAIT_SECONDS = 45.0
"""Of the wall clock: whoever waits for a pipe takes no processor time."""
_ADDRESS_BYTES = 6 * 2**30
"""More than the process had: a page fault of the machine's is worse than a failed test."""

DECLARED = (1, 2, 3, 4)
"""Exit codes of `ovamgen.errors`."""
MAX_LINE = 2000
MARKUP = "<img src=x onerror=hostile>"
"""What attacks by text write where a page or a card may show it."""

_TOLD = ("ovamgen: ", "1 problem", "2 problems", "3 problems")
"""How the line begins that says why; ``doctor`` counts what is in the way."""
_SAFE_CONTROLS = "\n\t"
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one attack on one command."""

    attack: Attack
    command: str
    code: int | None
    """Exit code; None where the process was ended."""
    seconds: float
    mib: float
    faults: tuple[str, ...]
    """What must not be: ``traceback``, ``time``, ``memory``, ``outside touched`` and so on."""
    said: str
    """The last of what it wrote, for whoever looks into a fault."""

    @property
    def name(self) -> str:
        """``succeeds``, ``refused (2)``, or the faults."""
        if self.faults:
            return ", ".join(self.faults)
        return f"refused ({self.code})" if self.code else "succeeds"


def put(attack: Attack, command: str, specimen: Path, folder: Path) -> Outcome:
    """The outcome of a command that reads an attacked copy of the specimen, made in the folder."""
    folder.mkdir(exist_ok=True)
    root = folder / "world"
    shutil.copytree(specimen, root, symlinks=True)
    attack.damage(root)
    answer, log = folder / "answer.json", folder / "log"
    before = state_of(root)
    arguments = COMMANDS[attack.target][command]
    process = SERVER.Process(target=_attempt, args=(arguments, str(root), str(answer), str(log)))
    process.start()
    deadline = time.monotonic() + WAIT_SECONDS
    process.join(WAIT_SECONDS)
    faults = []
    if process.exitcode is None:
        process.kill()
        process.join()
        faults.append("time" if time.monotonic() >= deadline else "killed")
    found = json.loads(answer.read_text()) if answer.exists() else {}
    if not faults and (process.exitcode != 0 or not found):
        faults.append(f"died ({process.exitcode})")
    said = log.read_bytes() if log.exists() else b""
    faults += found.get("faults", [])
    faults += _faults_of_text(said, found.get("code"))
    faults += _faults_of_files(root, before, arguments)
    if found.get("seconds", 0) > LIMIT_SECONDS:
        faults.append("time")
    if found.get("mib", 0) > LIMIT_MIB:
        faults.append("memory")
    outcome = Outcome(
        attack=attack,
        command=command,
        code=found.get("code"),
        seconds=found.get("seconds", WAIT_SECONDS),
        mib=found.get("mib", 0.0),
        faults=tuple(dict.fromkeys(faults)),
        said=said[-1500:].decode("utf-8", "backslashreplace"),
    )
    shutil.rmtree(folder)
    return outcome


def _faults_of_text(said: bytes, code: int | None) -> list[str]:
    faults = []
    text = said.decode("utf-8", "surrogateescape")
    if "Traceback (most recent call last)" in text:
        faults.append("traceback")
    if any(
        unicodedata.category(c) in ("Cc", "Cs") and c not in _SAFE_CONTROLS for c in text
    ) or _BIDI.search(text):
        faults.append("raw text")
    told = [line for line in text.splitlines() if line.startswith(_TOLD)]
    if (
        code in DECLARED
        and "traceback" not in faults
        and (len(told) != 1 or len(told[0]) > MAX_LINE)
    ):
        faults.append(f"{len(told)} lines of up to {max(map(len, told), default=0)}")
    if code not in (None, 0, *DECLARED):
        faults.append(f"code {code}")
    return faults


def _faults_of_files(
    root: Path, before: dict[str, tuple[int, str]], arguments: Arguments
) -> list[str]:
    faults = []
    after = state_of(root)
    own = {CODE_RAN, "new"}
    if isinstance(arguments, tuple):
        own |= {after for flag, after in pairwise(arguments) if flag == "--out"}
        if arguments[0] == "repair" or (arguments[0] == "report" and "--out" not in arguments):
            own.add(arguments[1])
        if arguments[:2] == ("annotate", "import"):
            own.add("samples")
    changed = [
        name
        for name in before.keys() | after
        if before.get(name) != after.get(name) and name.split("/")[0] not in own
    ]
    if any(name.startswith(OUTSIDE) for name in changed):
        faults.append("outside touched")
    elif changed:
        faults.append(f"changed {sorted(changed)[0]}")
    if (root / CODE_RAN).exists():
        faults.append("code ran")
    return faults + _faults_of_output(root)


def _faults_of_output(root: Path) -> list[str]:
    """What is wrong with pages, cards and lists that were written."""
    faults = []
    for path in [*root.glob("new*"), *root.glob("new/**/*")]:
        if path.is_symlink() or not path.is_file():
            continue
        if path.suffix in (".html", ".md") and MARKUP in path.read_text("utf-8", "replace"):
            faults.append(f"markup in {path.name}")
        if path.suffix == ".csv" and re.search(
            r'(^|,)"?[=+@]', path.read_text("utf-8", "replace"), re.MULTILINE
        ):
            faults.append(f"formula in {path.name}")
        if path.suffix in (".txt", ".jpg", ".png") and not re.fullmatch(
            r"[\w.]+", path.name, re.ASCII
        ):
            faults.append("name of a file")
    return faults


def _attempt(arguments: Arguments, root: str, answer: str, log: str) -> None:
    """In a process of its own."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(root)
    before = resource.getrusage(resource.RUSAGE_SELF)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESS_BYTES,) * 2)
    faults: list[str] = []
    sys.addaudithook(_watch(faults))
    _draw_discs()
    code = 1
    try:
        code = exit_code_of(arguments)
        _execute_what_was_written()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = own.ru_utime + own.ru_stime - before.ru_utime - before.ru_stime
        found = {
            "code": code,
            "seconds": seconds + children.ru_utime + children.ru_stime,
            "mib": max(own.ru_maxrss - before.ru_maxrss, children.ru_maxrss) / 1024,
            "faults": faults,
        }
        Path(answer).write_text(json.dumps(found))
    # threads of a command that was refused need not be waited for
    os._exit(0)


def _draw_discs() -> None:
    """What ``repair`` and ``replay`` make again is drawn by the engine that the corpus is of."""
    from ovamgen.integrity import replay
    from ovamgen.run import local
    from tests.fakes import DiscEngine

    for module in (local, replay):
        module.load_engine_factory = lambda: DiscEngine  # type: ignore[attr-defined]


def _watch(faults: list[str]):
    """Takes note of requests and of programs that are begun."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "socket.getaddrinfo" or (
            event == "socket.connect" and isinstance(arguments[1], tuple)
        ):
            faults.append("request")
        if event in ("os.system", "os.exec", "os.posix_spawn"):
            faults.append("program begun")

    return hook


def _execute_what_was_written() -> None:
    """Runs generated Python as its reader does."""
    for path in Path("new").rglob("*.py"):
        text = path.read_text("utf-8").replace("{{ fileDirname }}", str(path.parent))
        exec(compile(text, path.name, "exec"), {})
