"""The command line, as ``python -m ovamgen`` and as the ``ovamgen`` that pip installs."""

import atexit
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Runs the command line and ends the process with its code."""
    # before the imports: they take long enough for a Ctrl-C, and leave nothing to tidy up
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from ovamgen.cli import main as run

    code = 0
    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    _end(code)


def _end(code: int) -> NoReturn:
    """Ends the process as the interpreter does, but for taking itself apart.

    A daemon thread that is in the code of torch or Arrow then is ended in the middle of it, and
    C++ ends the process for that: "terminate called without an active exception", exit code 134.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # whoever read it is gone
        code = code or 1
    os._exit(code)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
