"""Entry point for ``ray job submit``: the supplementary of the OVAM paper, to one HTML page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# a job runs from its working directory, where the package need not be installed
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ovamgen.config import merge, parse_overrides, read_config_file
from ovamgen.console.log_format import say, use_log_format_of_environment
from ovamgen.errors import OvamgenError
from ovamgen.evaluate.reproduction.cost import estimate
from ovamgen.evaluate.reproduction.settings import build_reproduction_settings
from ovamgen.evaluate.reproduction.steps import reproduce
from ovamgen.run.drain import Interrupted


def main() -> int:
    """Makes the reproduction, or goes on with it; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python jobs/reproduce.py --config jobs/configs/reproduce-mini.yaml "
        "--out reproduction",
    )
    parser.add_argument("--config", required=True, help="YAML: see jobs/configs/reproduce-*.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets")
    parser.add_argument(
        "--out", default="reproduction", help="folder; one that was stopped goes on [%(default)s]"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few pictures and steps: does it run, no results"
    )
    parser.add_argument(
        "--estimate", action="store_true", help="say how long it would take, and do nothing else"
    )
    options = parser.parse_args()
    use_log_format_of_environment()
    try:
        given = merge(read_config_file(options.config), parse_overrides(options.sets))
        settings = build_reproduction_settings(given, quick=options.quick)
        for line in estimate(settings, options.out).lines():
            say(line)
        if options.estimate:
            return 0
        print(f"page           {reproduce(settings, options.out, say).page}")
    except (OvamgenError, Interrupted, KeyboardInterrupt) as error:
        code = int(getattr(error, "exit_code", 130))
        told = str(error) or "stopped; the same command goes on"
        say(f"ovamgen: {told}", level="error", event="error", exit_code=code)
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
