"""``export``: a corpus in the layouts of other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ovamgen.cli.corpus import NewOut, Partial, Source
from ovamgen.cli.options import AsJson, ViewSource, show_result

if TYPE_CHECKING:
    from ovamgen.console.progress import RunProgress

app = typer.Typer(
    help="""Write a corpus in the layout of other tools.

    Example: `ovamgen export voc corpus --out voc`
    """,
    no_args_is_help=True,
)


@app.command()
def voc(
    corpus: Source,
    out: NewOut,
    val_share: Annotated[
        float, typer.Option(help="Share of the samples in val.txt, chosen by key.")
    ] = 0.1,
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Write a VOCdevkit: palette masks, ImageSets, a class table, an mmsegmentation config.

    Example: `ovamgen export voc corpus --out voc`
    """
    from ovamgen.corpus.export.engine import export_folder
    from ovamgen.corpus.export.voc import VocFormat

    form = VocFormat(val_share)
    with _progress(corpus, partial, source) as progress:
        done = export_folder(
            corpus,
            out,
            form,
            partial=partial,
            source=source,
            after_sample=lambda: progress.count(images=1),
        )
    show_result(done, as_json=as_json)


@app.command()
def hf(
    corpus: Source,
    out: NewOut,
    link: Annotated[
        bool, typer.Option(help="Give tars a second name where that can be, or copy them.")
    ] = True,
    creator: Annotated[str, typer.Option(help="Who publishes it, for croissant.json.")] = "",
    published: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="The day of it, for croissant.json.")
    ] = "",
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Write a Hugging Face dataset: WebDataset tars, card, Croissant metadata, wids index.

    Example: `ovamgen export hf selected --out dataset`
    """
    from ovamgen.corpus.export.hf import export_hf as run

    with _progress(corpus, partial, source) as progress:
        done = run(
            corpus,
            out,
            link=link,
            creator=creator,
            published=published,
            partial=partial,
            source=source,
            after_shard=lambda count: progress.count(images=count, shards=1),
        )
    show_result(done, as_json=as_json)


def _progress(url: str, partial: bool, source: str | None) -> RunProgress:
    """Returns the progress of work on each sample of a corpus."""
    from ovamgen.console.progress import RunProgress
    from ovamgen.corpus.open import open_corpus

    corpus = open_corpus(url, partial=partial, source=source)
    return RunProgress(
        total_samples=corpus.samples, done_samples=0, total_shards=len(corpus.records)
    )
