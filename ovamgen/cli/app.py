"""The commands under their names, and how errors become exit codes."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import typer

from ovamgen.cli import corpus, images
from ovamgen.drain import Interrupted
from ovamgen.errors import OvamgenError

app = typer.Typer(
    name="ovamgen",
    help="Image and mask shards for semantic segmentation, out of Stable Diffusion's attention.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
tokens = typer.Typer(help="Import and list banks of optimised tokens.", no_args_is_help=True)
bench = typer.Typer(help="Measure what things cost.", no_args_is_help=True)

app.command()(corpus.plan)
app.command()(corpus.generate)
app.command()(corpus.status)
app.command()(images.attribute)
app.add_typer(tokens, name="tokens")
tokens.command("import")(images.import_tokens)
tokens.command("list")(images.list_bank)
app.add_typer(bench, name="bench")
bench.command("attention")(images.bench_attention)


def main() -> None:
    """Runs the command line and exits with its code."""
    # as Interrupted, which nothing between here and the command takes for an error of its own
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except OvamgenError as error:
        print(f"ovamgen: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Interrupted as stop:
        print(f"ovamgen: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)
