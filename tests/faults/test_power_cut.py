"""After a power cut at any moment, the same command finds a state that it knows."""

import hashlib

import pytest

from tests.faults.commands import WRITERS, Case
from tests.faults.power import Disk, write_state
from tests.faults.table import CommandRow

pytestmark = pytest.mark.timeout(3000)

DAILY = "annotate save"
CASES = [pytest.param(name, marks=() if name == DAILY else pytest.mark.slow) for name in WRITERS]


@pytest.mark.parametrize("name", CASES)
def test_every_state_of_the_disk_is_one_that_the_command_knows(
    name, disturber, original, tmp_path, command_rows
):
    case = Case(name, disturber, original, tmp_path)
    case.reset()
    disk = Disk(case.world / case.writer.watched)
    log = tmp_path / "log"
    done = case.run("log", log=str(log))
    assert done.code == 0, done.said
    found, seen = {}, set()
    for number, *states in disk.replay(log):
        for kind, state in zip(("names lost", "content lost"), states, strict=True):
            mark = hashlib.sha256(repr(sorted(state.items())).encode()).digest()
            if mark in seen:
                continue
            seen.add(mark)
            case.reset()
            write_state(state, case.world / case.writer.watched)
            found[number, kind] = case.judge()
    command_rows.append(CommandRow.of(name, "power cut", found, len(found)))
    assert len(seen) > 2
    wrong = {at: result for at, result in found.items() if result not in ("equal", "clear")}
    assert not wrong
