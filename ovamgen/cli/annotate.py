"""``annotate``: people paint masks in a page of their browser, or bring masks painted elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from ovamgen.cli.options import AsJson
from ovamgen.console.log_format import show
from ovamgen.console.progress import Progress
from ovamgen.errors import ConfigError

Samples = Annotated[
    str | None, typer.Option(metavar="DIR", help="A folder that 'ovamgen samples' made. [required]")
]

app = typer.Typer(invoke_without_command=True, no_args_is_help=True)


@app.callback()
def annotate(
    context: typer.Context,
    samples: Samples = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")
    ] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address only.")
    ] = False,
) -> None:
    """Paint masks of the samples' objects in a page of your browser.

    Example: `ovamgen annotate --samples samples`

    Masks are saved while you paint, to `DIR/annotations/KEY.png`; press `?` in the page for its
    keys, and Ctrl-C here to end. The server is reachable from this machine only, and its address
    holds a token that is made anew each time. On another machine:
    `ssh -L 8000:127.0.0.1:8000 MACHINE`, there `ovamgen annotate --samples samples --port 8000
    --no-browser`, and open the address here.
    """
    context.obj = samples
    if context.invoked_subcommand is not None:
        return
    root = _given(samples)
    from ovamgen.annotate.serving import annotate as serve
    from ovamgen.annotate.serving import open_in_browser
    from ovamgen.pictures.sample_folder import SampleFolder

    def announce(url: str) -> None:
        show(url)
        if no_browser or not open_in_browser(url):
            typer.echo("open this address in your browser; Ctrl-C here ends", err=True)
        else:
            typer.echo("your browser shows the page; Ctrl-C here ends", err=True)

    sitting = serve(SampleFolder.open(root), port=port, announce=announce)
    show("\n".join(sitting.lines()))


@app.command("import")
def import_masks(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILES", help="KEY.json or KEY.png.")],
    samples: Samples = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Take the shapes of this label. [default: those of the sample's class, by any of "
            "its names]"
        ),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="LABEL=CLASS", help="animal=cat, say; repeatable."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace annotations that are there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take in masks painted elsewhere: labelme's JSON, or PNG where black is background.

    Example: `ovamgen annotate import --samples samples painted/*.json`

    A file's name without its ending is the key of its sample. Of labelme's shapes those are taken
    whose label is the sample's class; the labels that are left out are named. Files that cannot be
    taken in are named with the reason, the others are imported, and the exit code is 3.
    """
    root = _given(samples or context.obj)
    from ovamgen.annotate.importing import import_masks as import_files
    from ovamgen.pictures.sample_folder import SampleFolder

    classes = {}
    for pair in maps or []:
        text, _, name = pair.rpartition("=")
        if not text:
            raise ConfigError(f"--map expects LABEL=CLASS such as animal=cat, got '{pair}'")
        classes[text] = name
    folder = SampleFolder.open(root)
    with Progress("files") as counting:

        def on_file(file: str, reason: str | None) -> None:
            counting.add()
            if reason is not None:
                counting.say(f"{file}: {reason}" if file not in reason else reason)

        done = import_files(
            folder,
            files,
            label=label,
            classes=classes,
            overwrite=overwrite,
            on_start=counting.start,
            on_file=on_file,
        )
    if as_json:
        import json

        failed = [{"file": file, "reason": reason} for file, reason in done.failures]
        left_out = [{"file": file, "labels": labels} for file, labels in done.left_out]
        show(json.dumps({"imported": [*done.keys], "failed": failed, "left_out": left_out}))
    else:
        for file, labels in done.left_out:
            show(f"left out       {', '.join(labels)} ({file})")
        show(f"imported       {len(done.keys)} of {len(done.keys) + len(done.failures)}")
    done.check_complete()


def _given(samples: str | None) -> str:
    if not samples:
        raise ConfigError(
            "--samples must name a folder of samples: make one with 'ovamgen samples'"
        )
    return samples
