"""Entry point for ``ray job submit --working-dir . -- python jobs/generate.py --config ...``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# a job runs from its working directory, where the package need not be installed
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ovamgen.config import (
    build_config,
    parse_overrides,
    read_config_file,
    with_preset_file,
)
from ovamgen.console.log_format import say, use_log_format_of_environment
from ovamgen.errors import OvamgenError
from ovamgen.generation import generate
from ovamgen.run.drain import Interrupted


def main() -> int:
    """Makes the corpus that the configuration asks for; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python jobs/generate.py --config jobs/configs/sd15-cluster.yaml "
        "--set plan.limit=1000 --set out=/mnt/corpus",
    )
    parser.add_argument("--config", required=True, help="YAML file; see jobs/configs/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets")
    parser.add_argument("--extend", action="store_true", help="add to a corpus that is there")
    options = parser.parse_args()
    use_log_format_of_environment()
    try:
        layers = (read_config_file(options.config), parse_overrides(options.sets))
        config = build_config(*with_preset_file(*layers))
        outcome = generate(config, extend=options.extend)
        print("\n".join(outcome.lines()))
        outcome.check_complete()
    except OvamgenError as error:
        say(f"ovamgen: {error}", level="error", event="error", exit_code=error.exit_code)
        return error.exit_code
    except Interrupted as stop:
        say(f"ovamgen: {stop}", level="error", event="error", exit_code=stop.exit_code)
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
