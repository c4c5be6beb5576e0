"""The reference of the command line, made of the commands themselves by typer's own writer.

``typer utils docs`` alone would lack what help looks up when it is asked for: choices and defaults
of options that are keys of a configuration.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer
from typer.cli import get_docs_for_click

from ovamgen.cli import app
from ovamgen.cli.help import RunCommand

INTRODUCTION = """# Commands

What `--help` says, of every command. [Configuration](configuration.md) lists the keys of `--set` \
and of YAML files.

"""


def command_reference() -> str:
    """The page, as Markdown: a heading for each command."""
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="ovamgen")
    for command in _commands(group):
        # typer's writer shortens lists of commands to 45 characters where there is no short help
        command.short_help = " ".join(inspect.cleandoc(command.help).split("\n\n")[0].split())
        if isinstance(command, RunCommand):
            command.complete_help()
    return INTRODUCTION + get_docs_for_click(obj=group, ctx=context, name="ovamgen", indent=1)


def _commands(command: Any) -> Iterator[Any]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from _commands(inner)
