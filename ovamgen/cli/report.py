"""``report``: a page about a corpus."""

from __future__ import annotations

from typing import Annotated

import typer

from ovamgen.cli.options import AsJson, show_result
from ovamgen.console.progress import tracked
from ovamgen.shards.output_files import REPORT_NAME


def report(
    url: Annotated[str, typer.Argument(metavar="DIR_OR_URL", help="What generate wrote.")],
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE_OR_URL", help=f"By default {REPORT_NAME} in the corpus."),
    ] = None,
    max_samples: Annotated[
        int, typer.Option(min=0, help="Samples shown with pictures, at most.")
    ] = 240,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page about a corpus: counts, samples, failures, settings.

    The page is about what is there, so an unfinished run has one too. It stays below 15 MB.

    Example: `ovamgen report corpus --out report.html`
    """
    from ovamgen.report.write import write_report

    show_result(write_report(url, out, max_samples=max_samples, track=tracked), as_json=as_json)
