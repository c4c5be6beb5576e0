"""Every command that writes, killed, on a full disk, where it may not write, and two at once.

Then the same command again: the bytes of an undisturbed one, or one line that says why not. What
was there before is there after.
"""

import os

import pytest

from tests.faults.commands import WRITERS, Case
from tests.faults.table import CommandRow

pytestmark = pytest.mark.timeout(3000)
DISK_SIZES = 12
PLACES = "OVAMGEN_FAULTS_PLACES"
"""How many file operations of a command are tried, spread evenly; all where it is not set."""
QUICK = {"report --out": 3}
"""Commands that are killed every day, each at this operation."""


@pytest.fixture(scope="module")
def case(request, disturber, original, tmp_path_factory):
    """One for all tests of a command, which therefore run one after the other."""
    return Case(request.param, disturber, original, tmp_path_factory.mktemp("case"))


def check(case, command_rows, fault, found, places=1):
    """Keeps the row; nothing was lost, and nothing ended in silence."""
    command_rows.append(CommandRow.of(case.name, fault, found, places))
    wrong = {place: result for place, result in found.items() if result not in ("equal", "clear")}
    assert not wrong


@pytest.mark.parametrize("case", QUICK, indirect=True)
def test_killed_at_one_operation(case):
    case.reset()
    killed = case.run("kill", QUICK[case.name])
    assert killed.code == -9, killed.said
    assert case.judge() == "equal"


@pytest.mark.slow
@pytest.mark.parametrize("case", WRITERS, indirect=True)
def test_killed_at_every_operation(case, command_rows):
    found = {}
    operations = case.operations()
    assert operations > 3
    tried = min(int(os.environ.get(PLACES, operations)), operations)
    for place in sorted({number * operations // tried for number in range(tried)}):
        case.reset()
        killed = case.run("kill", place)
        if killed.code == 0:  # threads take turns: fewer operations than were counted
            continue
        assert killed.code == -9, killed.said
        found[place] = case.judge()
    check(case, command_rows, "kill -9", found, operations)


@pytest.mark.slow
@pytest.mark.parametrize("case", WRITERS, indirect=True)
def test_a_full_disk(case, command_rows):
    case.reset()
    size = case.run("full", 2**60).count
    assert size > DISK_SIZES
    found = {}
    for part in range(DISK_SIZES):
        case.reset()
        full = case.run("full", size * part // DISK_SIZES)
        clear = full.code != 0 and full.is_clear
        found[part] = case.judge() if clear or full.code == 0 else f"not clear: {full.said[-800:]}"
    check(case, command_rows, "disk full", found, DISK_SIZES)


@pytest.mark.slow
@pytest.mark.parametrize("case", WRITERS, indirect=True)
def test_a_target_that_is_read_only(case, command_rows):
    case.reset()
    refused = case.run("read-only")
    clear = refused.is_clear or refused.code == 0
    found = case.judge() if clear else f"not clear: {refused.said}"
    check(case, command_rows, "read-only", {0: found})


@pytest.mark.slow
@pytest.mark.parametrize("case", WRITERS, indirect=True)
def test_two_at_once(case, command_rows):
    case.reset()
    both = [case.start() for _ in range(2)]
    ended = [case.wait(process) for process in both]
    assert any(attempt.code == 0 for attempt in ended), [attempt.said for attempt in ended]
    unclear = [a.said for a in ended if a.code != 0 and not a.is_clear]
    found = f"not clear: {unclear}" if unclear else case.judge()
    check(case, command_rows, "two at once", {0: found})
