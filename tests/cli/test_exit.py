"""A command ends with its own exit code, whatever its threads are doing."""

import subprocess
import sys

import pytest

CODE = """
import atexit, sys, threading, time
import ovamgen.cli
from ovamgen.__main__ import main

def command():
    import torch

    def sort():
        numbers = torch.zeros(1000)
        while True:
            torch.sort(numbers + 1)

    threading.Thread(target=sort, daemon=True).start()
    threading.Thread(target=lambda: (time.sleep(0.2), print("waited for"))).start()
    atexit.register(print, "tidied up")
    time.sleep(0.1)
    {end}

ovamgen.cli.main = command
main()
"""


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("sys.exit(3)", 3, ""),
        pytest.param(
            "raise KeyError('a defect')", 1, "KeyError: 'a defect'", marks=pytest.mark.slow
        ),
    ],
)
def test_a_thread_in_torch_does_not_abort_the_process(end, code, said):
    """As the interpreter ends, it would: exit code 134."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(end=end)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines() == ["waited for", "tidied up"]
    assert said in done.stderr
