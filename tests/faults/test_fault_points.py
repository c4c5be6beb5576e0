"""Faults where a test asks for them, and nothing at all where none does."""

import errno
import os
import re
import signal
import subprocess
import sys

import pytest

from ovamgen import fault_points
from ovamgen.errors import ConfigError
from ovamgen.fault_points import FAULTS, MARKS, parse_faults, reaching
from tests.faults.table import STEPS, STEPS_OF_CHANGES

PASS = "from ovamgen.fault_points import reach\nfor _ in range(3): reach('a.b'); print('on')"


def run(**variables):
    return subprocess.run(
        [sys.executable, "-c", PASS],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_variable_a_step_is_an_empty_function():
    code = "from ovamgen import fault_points as f; print(f.reach is f._nothing)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert fault_points.reach("a.b") is None


def test_the_third_passing_kills():
    done = run(**{FAULTS: "a.b:kill:3"})
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "on\non\n")


def test_marks_count_the_passings_of_all_processes(tmp_path):
    variables = {FAULTS: "a.b:term:4; c.d:kill", MARKS: str(tmp_path)}
    assert run(**variables).returncode == 0
    assert run(**variables).returncode == -signal.SIGTERM
    assert run(**variables).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.b.{n}" for n in (1, 2, 3, 4)]


def test_errors_are_raised_where_they_are_asked_for():
    reach = reaching("a.b:raise=ENOSPC:2;a.b:sleep=0:3")
    reach("a.b")
    reach("c.d")
    with pytest.raises(OSError, match="No space left") as caught:
        reach("a.b")
    assert caught.value.errno == errno.ENOSPC
    reach("a.b")
    reach("a.b")


@pytest.mark.parametrize(
    "text", ["a.b", "a.b:", ":kill", "a.b:kill:0", "a.b:kill:x", "a.b:sleep=", "a.b:raise=EWRONG"]
)
def test_a_fault_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="expects STEP:ACTION"):
        parse_faults(text)


def test_the_matrix_knows_every_step(repository):
    text = "".join(path.read_text("utf-8") for path in (repository / "ovamgen").rglob("*.py"))
    steps = re.findall(r'fault_points\.reach\("([a-z_]+\.[a-z_]+)"\)', text)
    assert set(steps) == STEPS.keys() | STEPS_OF_CHANGES.keys()
