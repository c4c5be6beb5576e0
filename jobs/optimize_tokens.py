"""Entry point for ``ray job submit --working-dir . -- python jobs/optimize_tokens.py ...``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# a job runs from its working directory, where the package need not be installed
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ovamgen.errors import OvamgenError
from ovamgen.run.drain import Interrupted
from ovamgen.tokens.optimise import OptimiseRequest, optimise_tokens


def main() -> int:
    """Learns the tokens of all classes in parallel; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python jobs/optimize_tokens.py --samples /mnt/voc-sim "
        "--out /mnt/voc.safetensors --report /mnt/report --device cuda",
    )
    for name in ("samples", "out"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("annotations", "validate", "report", "model", "device", "branch"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--classes", default=(), type=lambda text: tuple(text.split(",")))
    parser.add_argument("--preset", default="paper", help="paper or released-code")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--lr", type=float, dest="learning_rate")
    parser.add_argument("--tau", type=float, help="threshold that the bank is to name")
    parser.add_argument("--images-per-class", type=int, default=1)
    parser.add_argument("--max-memory", type=float, dest="max_memory_gb", help="GB a worker")
    parser.add_argument("--workers", type=int, help="models held at once")
    options = parser.parse_args()
    try:
        done = optimise_tokens(OptimiseRequest(**vars(options), ray=True))
        print("\n".join(done.lines()))
        done.check_complete()
    except OvamgenError as error:
        print(f"ovamgen: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted as stop:
        print(f"ovamgen: {stop}", file=sys.stderr)
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
