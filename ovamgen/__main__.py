"""The command line, as ``python -m ovamgen`` and as the ``ovamgen`` that pip installs."""

import os
import signal
from types import FrameType


def main() -> None:
    """Runs the command line and exits with its code."""
    # before the imports: they take long enough for a Ctrl-C, and leave nothing to tidy up
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from ovamgen.cli import main as run

    run()


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
