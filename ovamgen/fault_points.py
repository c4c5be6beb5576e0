"""Named steps of a run at which tests let something go wrong.

`reach` is bound once, when this module is imported: to a function that does nothing, or, where the
environment names faults, to the one that makes them happen. So a run in earnest pays one empty call
at each step, a dozen for a shard and one for a batch; no variable is read and nothing is compared
there. Callers write ``fault_points.reach("...")``.

``OVAMGEN_FAULT_POINTS`` holds faults joined by ";", each ``STEP:ACTION[=VALUE][:PASSING]``, where
PASSING is the number of the passing that goes wrong, from 1, in each process by itself:

    shard.tar_closed:kill             SIGKILL to the process that closes a tar for the first time
    tar.sample_added:kill:4           ... that has put a fourth sample into tars
    batch.begun:sleep=2.5:3           the third batch takes 2.5 s longer
    shard.tar_closed:raise=ENOSPC     OSError with that code
    run.plan_written:term             SIGTERM to the process itself

``OVAMGEN_FAULT_MARKS`` names a folder in which the passings of all processes are counted together:
the fault then happens once, and whoever tries again gets past it. A file ``STEP.PASSING``, with the
process id in it, is left for each counted passing.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ovamgen.errors import ConfigError

FAULTS = "OVAMGEN_FAULT_POINTS"
MARKS = "OVAMGEN_FAULT_MARKS"

_FAULT = re.compile(
    r"(?P<step>[a-z_.]+):"
    r"(?P<action>kill|term|sleep=(?P<seconds>[0-9]+(\.[0-9]+)?)|raise=(?P<code>E[A-Z0-9]+))"
    r"(:(?P<passing>[1-9][0-9]*))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, where, and at which passing."""

    step: str
    action: str
    """``kill``, ``term``, ``sleep`` or ``raise``."""
    value: str
    """Seconds of ``sleep``, name of the error of ``raise``; "" for others."""
    passing: int

    def happen(self) -> None:
        """Ends the process, delays it, or raises the OSError."""
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.action == "sleep":
            time.sleep(float(self.value))
        else:
            code = getattr(errno, self.value)
            raise OSError(code, os.strerror(code))


def parse_faults(text: str) -> list[Fault]:
    """The faults of a text such as ``shard.tar_closed:kill:3``.

    Raises:
        ConfigError: it is none; a fault that never happened would make a test pass.
    """
    return [_parse(part.strip()) for part in text.split(";") if part.strip()]


def reaching(text: str, marks: Path | None = None) -> Callable[[str], None]:
    """The `reach` of a process with these faults.

    Args:
        text: as in ``OVAMGEN_FAULT_POINTS``.
        marks: folder in which passings of all processes are counted; each for itself where None.

    Raises:
        ConfigError: the text names no faults.
    """
    faults = {(fault.step, fault.passing): fault for fault in parse_faults(text)}
    last = {step: max(p for s, p in faults if s == step) for step, _ in faults}
    passed: Counter[str] = Counter()

    def reach(step: str) -> None:
        if step not in last:
            return
        if marks is None:
            passed[step] += 1
        else:
            passed[step] = _count_in(marks, step, passed[step], last[step])
        fault = faults.get((step, passed[step]))
        if fault is not None:
            fault.happen()

    return reach


def _count_in(marks: Path, step: str, passed: int, last: int) -> int:
    """The number of this passing among those of all processes, by making the next free file."""
    for passing in range(passed + 1, last + 1):
        try:
            with (marks / f"{step}.{passing}").open("x") as file:
                file.write(str(os.getpid()))
            return passing
        except FileExistsError:
            continue
    return last + 1


def _parse(text: str) -> Fault:
    found = _FAULT.fullmatch(text)
    if found is None or (found["code"] and not hasattr(errno, found["code"])):
        raise ConfigError(
            f"{FAULTS} expects STEP:ACTION[:PASSING] with kill, term, sleep=SECONDS or raise=ERRNO "
            f"and a passing from 1, got '{text}'"
        )
    return Fault(
        step=found["step"],
        action=found["action"].partition("=")[0],
        value=found["seconds"] or found["code"] or "",
        passing=int(found["passing"] or 1),
    )


def _nothing(step: str) -> None:
    """What every step reaches where no fault was asked for."""


def _from_environment() -> Callable[[str], None]:
    text = os.environ.get(FAULTS, "")
    if not text:
        return _nothing
    marks = os.environ.get(MARKS)
    return reaching(text, Path(marks) if marks else None)


reach: Callable[[str], None] = _from_environment()
"""Says that a step is reached; does nothing unless the environment asks for a fault there."""
