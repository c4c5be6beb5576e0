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


INTERRUPTED = """
import os, signal, sys
from importlib.machinery import ExtensionFileLoader
from ovamgen.cli import main

ENTRY = ExtensionFileLoader.exec_module.__code__

def loads_fonts(frame):
    while frame is not None:
        if frame.f_code is ENTRY:
            return frame.f_locals["module"].__name__ == "matplotlib.ft2font"
        frame = frame.f_back
    return False

def watch(frame, event, argument):
    if event == "call" and "enum" in frame.f_code.co_filename and loads_fonts(frame):
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)

sys.setprofile(watch)
main()
"""


def test_ctrl_c_while_an_extension_loads_is_not_lost(tmp_path, repository):
    """Of matplotlib, which makes enumerations then: an exception there aborts the process."""
    arguments = ["attribute", "--model", "mini", "--prompt", "a cat", "--text", "cat"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *arguments, "--out", str(tmp_path / "maps.npz")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=repository,
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr == "ovamgen: stopped by SIGINT\n"
    assert list(tmp_path.iterdir()) == []
