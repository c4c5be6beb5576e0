"""The command line in this process, whose imports are paid for, or in one of its own."""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest


def ovamgen(*arguments):
    """Runs the command in this process, which need not load the libraries again."""
    from ovamgen.cli import main

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["ovamgen", *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as stop:
                main()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(
        arguments, stop.value.code or 0, out.getvalue(), err.getvalue()
    )


def exit_code_of(command):
    """Runs a command in this process, which it may end; the exit code as the shell gets it.

    ``command`` is what follows ``ovamgen``, or Python that is called as a command of it would be.
    """
    from ovamgen.cli import main
    from ovamgen.errors import OvamgenError

    if callable(command):
        try:
            command()
        except OvamgenError as error:
            print(f"ovamgen: {error}", file=sys.stderr)
            return error.exit_code
        return 0
    sys.argv = ["ovamgen", *command]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def ovamgen_alone(*arguments, **environment):
    """Runs the command in a process of its own, which knows of no Ray."""
    inherited = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "ovamgen", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        stdin=subprocess.DEVNULL,
        env=inherited | environment,
    )
