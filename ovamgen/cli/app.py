"""The commands under their names, and how errors become exit codes."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import typer

from ovamgen.cli import annotate, corpus, evaluate, hand_on, images, report, samples, train
from ovamgen.cli import tokens as token_commands
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
tokens = typer.Typer(
    help="Learn, score, merge and share banks of optimised tokens.", no_args_is_help=True
)
export = typer.Typer(help="Write a corpus in the layout of other tools.", no_args_is_help=True)
bench = typer.Typer(help="Measure what things cost.", no_args_is_help=True)
evaluation = typer.Typer(help="Score masks, methods and segmentors.", no_args_is_help=True)

app.command()(corpus.plan)
app.command()(corpus.generate)
app.command()(corpus.status)
app.command()(report.report)
app.command()(images.attribute)
app.add_typer(tokens, name="tokens")
tokens.command("optimize")(token_commands.optimise)
tokens.command("score")(token_commands.score)
tokens.command("merge")(token_commands.merge)
tokens.command("export")(token_commands.export)
tokens.command("import")(token_commands.import_tokens)
tokens.command("list")(token_commands.list_bank)
app.add_typer(bench, name="bench")
bench.command("attention")(images.bench_attention)
app.command()(samples.samples)
app.add_typer(annotate.app, name="annotate")
app.command()(train.train)
app.add_typer(evaluation, name="evaluate")
evaluation.command("masks")(evaluate.masks)
evaluation.command("compare")(evaluate.compare)
evaluation.command("segmentor")(train.evaluate_segmentor)
evaluation.command("table-s1")(evaluate.table_s1)
app.command()(hand_on.select)
app.command()(hand_on.reannotate)
app.add_typer(export, name="export")
export.command("voc")(hand_on.export_voc)
export.command("hf")(hand_on.export_hf)


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
