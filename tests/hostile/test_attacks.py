"""Every attack on every command: success, or one line and a declared exit code, within bounds.

Nothing outside the output is touched, nothing is asked of another machine, no code runs.
"""

import os

import pytest

from tests.hostile.attack import Attack
from tests.hostile.commands import COMMANDS
from tests.hostile.runner import put
from tests.hostile.suite import ATTACKS, QUICK
from tests.hostile.world import FILE

EVERY = "OVAMGEN_HOSTILE_EVERY"
"""Of the attacks every so many is tried; all where it is not set."""
SOME = ATTACKS[:: int(os.environ.get(EVERY, "1"))]
HEALTHY = [(target, command) for target, commands in COMMANDS.items() for command in commands]


def check(outcome, keep):
    keep(outcome)
    assert not outcome.faults, f"{outcome.name}, code {outcome.code}: {outcome.said}"


@pytest.mark.parametrize(("attack", "command"), QUICK, ids=lambda one: getattr(one, "label", one))
def test_one_of_each_kind(specimen, tmp_path, attack, command, keep):
    check(put(attack, command, specimen, tmp_path / "put"), keep)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("attack", SOME, ids=lambda attack: f"{attack.target}-{attack.label}")
def test_all_commands(specimen, tmp_path, attack, keep):
    outcomes = [
        put(attack, command, specimen, tmp_path / str(number))
        for number, command in enumerate(COMMANDS[attack.target])
    ]
    for outcome in outcomes:
        keep(outcome)
    wrong = [f"{o.command}: {o.name}, code {o.code}: {o.said}" for o in outcomes if o.faults]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "command"), HEALTHY)
def test_what_is_healthy_passes(specimen, tmp_path, target, command):
    """The harness itself: without an attack every command succeeds, or has nothing to read."""
    attack = Attack(family="none", name="none", target=target, damage=lambda root: None)
    outcome = put(attack, command, specimen, tmp_path / "put")
    # a view has no run; a whole model in one file has gigabytes, and this one is a part of one
    expected = {("view", "status"): 2, (FILE, "doctor"): 1, (FILE, "attribute"): 2}.get(
        (target, command), 0
    )
    assert (outcome.code, outcome.faults) == (expected, ()), outcome.said
