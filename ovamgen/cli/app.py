"""The commands under their names, and how errors become exit codes."""

from __future__ import annotations

import errno
import signal
import sys
from typing import Annotated, Literal, NoReturn

import typer
from typer import rich_utils

from ovamgen import __version__
from ovamgen.cli import annotate, evaluate, export, prompts, recipe, report, samples, train
from ovamgen.cli import attribute as images
from ovamgen.cli import bench as benches
from ovamgen.cli import classes as class_commands
from ovamgen.cli import corpus as hand_on
from ovamgen.cli import generate as corpus
from ovamgen.cli import heads as head_commands
from ovamgen.cli import help as configuration
from ovamgen.cli import integrity as trust
from ovamgen.cli import label as pictures
from ovamgen.cli import status as operations
from ovamgen.cli import tokens as token_commands
from ovamgen.cli.help import HeadCommand, PlanCommand, RunCommand, TrainCommand
from ovamgen.console import log_format
from ovamgen.errors import OvamgenError
from ovamgen.run.drain import Interrupted, interrupt
from ovamgen.storage.local import advice_for

_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]
"""click's own, whichever click typer brings along."""

app = typer.Typer(
    name="ovamgen",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
classes = typer.Typer(
    help="""Which classes there are: those that ship, and your own.

    Example: `ovamgen classes show coco`
    """,
    no_args_is_help=True,
)
tokens = typer.Typer(
    help="""Learn, score, merge and share banks of optimised tokens.

    Example: `ovamgen tokens optimize --samples samples --out voc.safetensors`
    """,
    no_args_is_help=True,
)
heads = typer.Typer(
    help="""Train or import the networks of Grounded Diffusion and DatasetDM.

    Example: `ovamgen heads show own-head.safetensors`
    """,
    no_args_is_help=True,
)
bench = typer.Typer(cls=benches.BenchGroup)
evaluation = typer.Typer(
    help="""Score masks, methods and segmentors.

    Example: `ovamgen evaluate compare --dataset mini --model mini --quick --out comparison`
    """,
    no_args_is_help=True,
)

app.command(cls=PlanCommand)(corpus.plan)
app.command(cls=RunCommand)(corpus.generate)
app.command(cls=RunCommand)(pictures.label)
app.command()(configuration.config)
app.command()(operations.status)
app.command(cls=RunCommand)(operations.doctor)
app.command()(trust.verify)
app.command()(trust.repair)
app.command()(trust.replay)
app.command()(report.report)
app.command(cls=RunCommand)(images.attribute)
app.command()(prompts.prompts)
app.add_typer(classes, name="classes")
classes.command("list")(class_commands.list_sets)
classes.command("show")(class_commands.show)
classes.command("check")(class_commands.check)
app.add_typer(tokens, name="tokens")
tokens.command("optimize")(token_commands.optimise)
tokens.command("score")(token_commands.score)
tokens.command("merge")(token_commands.merge)
tokens.command("export")(token_commands.export)
tokens.command("import")(token_commands.import_tokens)
tokens.command("list")(token_commands.list_bank)
app.add_typer(heads, name="heads")
heads.command("train", cls=HeadCommand)(head_commands.train)
heads.command("import")(head_commands.import_head)
heads.command("show")(head_commands.show_head)
app.add_typer(bench, name="bench")
bench.callback(invoke_without_command=True)(benches.bench)
bench.command("attention")(benches.attention)
bench.command("steps")(benches.steps)
bench.command("stages", cls=RunCommand)(benches.stages)
bench.command("gpu")(benches.gpu)
bench.command("driver")(benches.driver)
bench.command("plan")(benches.plan)
app.command(cls=PlanCommand)(samples.samples)
app.add_typer(annotate.app, name="annotate")
app.command(cls=TrainCommand)(train.train)
app.add_typer(evaluation, name="evaluate")
evaluation.command("masks", cls=RunCommand)(evaluate.masks)
evaluation.command("compare", cls=RunCommand)(evaluate.compare)
evaluation.command("recipe", cls=RunCommand)(recipe.recipe)
evaluation.command("figures", cls=RunCommand)(evaluate.figures)
evaluation.command("segmentor")(train.evaluate_segmentor)
evaluation.command("table-s1")(evaluate.table_s1)
app.command()(hand_on.select)
app.command(cls=RunCommand)(hand_on.reannotate)
app.add_typer(export.app, name="export")


def _version(asked: bool) -> bool:
    if asked:
        log_format.show(f"ovamgen {__version__}")
        raise typer.Exit()
    return asked


@app.callback()
def options(
    log_lines: Annotated[
        Literal["text", "json"],
        typer.Option(
            "--log-format",
            envvar=log_format.VARIABLE,
            # while options are read: an unknown command is told in the format, too
            callback=log_format.use_log_format,
            is_eager=True,
            help="Of the lines on stderr: for people, or one JSON object a line.",
        ),
    ] = "text",
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it, and end."),
    ] = False,
) -> None:
    """Image and mask shards for semantic segmentation, out of Stable Diffusion's attention.

    Example: `ovamgen generate --captions demo --model mini --limit 40 --out corpus`
    """


def main() -> None:
    """Runs the command line and exits with its code."""
    # as Interrupted, which nothing between here and the command takes for an error of its own
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        code = app(standalone_mode=False)
    except OvamgenError as error:
        _fail(f"ovamgen: {error}", type(error).__name__, error.exit_code)
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        place = f" ({error.filename})" if error.filename else ""
        reason = f"{error.strerror or error}{place}; {advice_for(error.errno)}"
        _fail(f"ovamgen: {reason}", "OSError", OvamgenError.exit_code)
    except Interrupted as stop:
        _fail(f"ovamgen: {stop}", "Interrupted", stop.exit_code)
    except typer.Abort:
        _fail("ovamgen: aborted", "Abort", 1)
    except _UsageError as error:
        if not log_format.is_json():
            rich_utils.rich_format_error(error)
            sys.exit(error.exit_code)
        _fail(f"ovamgen: {error.format_message()}", "UsageError", error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


_OF_THE_MACHINE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOTDIR, errno.EISDIR),
    }
)
"""What a disk or its owner may do to any command at any moment; it is nobody's defect."""
_MAX_MESSAGE = 1500
"""Characters of a message: it may repeat what came from elsewhere."""


def _fail(text: str, kind: str, exit_code: int) -> NoReturn:
    text = " ".join(text.splitlines())
    if len(text) > _MAX_MESSAGE:
        text = f"{text[: _MAX_MESSAGE // 2]} ... {text[-_MAX_MESSAGE // 2 :]}"
    log_format.say(text, level="error", event="error", kind=kind, exit_code=exit_code)
    sys.exit(exit_code)
