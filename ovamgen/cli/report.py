"""``report``: a page about a corpus."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Annotated

import typer

from ovamgen.cli.options import AsJson
from ovamgen.console.progress import Progress
from ovamgen.console.wording import counted, readable_bytes
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

    with _Parts() as parts:
        made = write_report(url, out, max_samples=max_samples, steps=parts)
    if as_json:
        print(json.dumps(made.to_json(), indent=2))
        return
    print(f"report         {made.out} ({readable_bytes(made.size_bytes)})")
    print(
        f"run            {made.state}; {counted(made.samples, 'sample')} made, {made.failed} failed"
    )
    print(f"shown          {counted(made.samples_shown, 'sample')}")


class _Parts(ExitStack):
    """How far it is, one bar after the other."""

    def begin(self, what: str, total: int) -> None:
        self.close()
        self._counting = self.enter_context(Progress(what))
        self._counting.start(total)

    def advance(self) -> None:
        self._counting.add()
