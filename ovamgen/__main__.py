"""``python -m ovamgen``: the command line."""

from ovamgen.cli import main

main()
