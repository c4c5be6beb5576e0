"""The command line: parse, one call, exit code. Results on stdout, everything else on stderr.

Nothing heavier than typer is imported at the top of these modules: ``--help`` answers at once.
"""

from ovamgen.cli.app import app, main

__all__ = ["app", "main"]
