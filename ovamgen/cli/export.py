"""``export``: a corpus in the layouts of other tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ovamgen.cli.corpus import NewOut, Partial, Source
from ovamgen.cli.options import AsJson, ViewSource, show_result
from ovamgen.console.log_format import say
from ovamgen.console.progress import Progress
from ovamgen.errors import ConfigError

if TYPE_CHECKING:
    from ovamgen.corpus.export.engine import ExportFormat, ExportResult
    from ovamgen.corpus.export.hf import HfExport

Split = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=SHARE,...",
        help="Such as train=0.9,val=0.1: which sample goes where is decided by its key alone, and "
        "stays so when the corpus grows.",
    ),
]
NewSize = Annotated[
    str | None,
    typer.Option(
        metavar="N|WxH",
        help="Resize images and masks: to N pixels at the shorter side, or to width x height.",
    ),
]
OnlyClasses = Annotated[
    str | None,
    typer.Option(
        metavar="a,b", help="The classes that stay; pixels of the others become background."
    ),
]
Push = Annotated[
    str | None,
    typer.Option(
        metavar="NAME/DATASET",
        help="Send the folder to this dataset repository of the Hugging Face Hub, by HF_TOKEN.",
    ),
]
Private = Annotated[
    bool, typer.Option("--private", help="A repository that --push makes is private.")
]

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
        float | None,
        typer.Option(help="Share of the samples in val.txt, chosen by key.", show_default="0.1"),
    ] = None,
    split: Split = None,
    size: NewSize = None,
    only_classes: OnlyClasses = None,
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Write a VOCdevkit: palette masks, ImageSets, a class table, an mmsegmentation config.

    Example: `ovamgen export voc corpus --out voc`
    """
    from ovamgen.corpus.export.voc import VocFormat

    if split is not None and val_share is not None:
        raise ConfigError("--val-share and --split say the same: give one of them")
    if val_share is None and split is None:
        val_share = 0.1
    asked = _Asked(corpus, out, split, size, only_classes, partial, source, as_json)
    asked.write(VocFormat(val_share))


@app.command()
def coco(
    corpus: Source,
    out: NewOut,
    form: Annotated[
        Literal["instances", "panoptic", "stuff"],
        typer.Option(help="Which of COCO's formats; ignored pixels are crowds, void, or in none."),
    ] = "instances",
    regions: Annotated[
        Literal["components", "class"],
        typer.Option(help="An annotation is a connected part of a class, or all of its pixels."),
    ] = "components",
    min_area: Annotated[int, typer.Option(help="Pixels; smaller regions are left out.")] = 1,
    split: Split = None,
    size: NewSize = None,
    only_classes: OnlyClasses = None,
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Write COCO's layout: images and a JSON of run-length encoded regions for each split.

    Example: `ovamgen export coco corpus --out coco`
    """
    from ovamgen.corpus.export.coco import CocoFormat

    asked = _Asked(corpus, out, split, size, only_classes, partial, source, as_json)
    asked.write(CocoFormat(form, regions, min_area))


@app.command()
def ultralytics(
    corpus: Source,
    out: NewOut,
    form: Annotated[
        Literal["masks", "polygons"],
        typer.Option(help="Exact masks, or polygons for versions that read nothing else."),
    ] = "masks",
    split: Split = None,
    size: NewSize = None,
    only_classes: OnlyClasses = None,
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Write Ultralytics' layout: images, masks or polygons, data.yaml; a tenth is val.

    Example: `ovamgen export ultralytics corpus --out yolo`
    """
    from ovamgen.corpus.export.ultralytics import UltralyticsFormat

    asked = _Asked(corpus, out, split, size, only_classes, partial, source, as_json)
    asked.write(UltralyticsFormat(form))


@app.command()
def cvat(
    corpus: Source,
    out: NewOut,
    split: Split = None,
    size: NewSize = None,
    only_classes: OnlyClasses = None,
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Write the archive that CVAT imports as Segmentation mask 1.1, and its labels.

    Example: `ovamgen export cvat corpus --out cvat`
    """
    from ovamgen.corpus.export.cvat import CvatFormat

    asked = _Asked(corpus, out, split, size, only_classes, partial, source, as_json)
    asked.write(CvatFormat())


@app.command()
def labelstudio(
    corpus: Source,
    out: NewOut,
    image_url: Annotated[
        str, typer.Option(metavar="PREFIX", help="What stands before KEY.jpg in the tasks.")
    ] = "/data/local-files/?d=images/",
    split: Split = None,
    size: NewSize = None,
    only_classes: OnlyClasses = None,
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Write tasks for Label Studio, with the masks as brush predictions to be corrected.

    Example: `ovamgen export labelstudio corpus --out tasks`
    """
    from ovamgen.corpus.export.label_studio import LabelStudioFormat

    asked = _Asked(corpus, out, split, size, only_classes, partial, source, as_json)
    asked.write(LabelStudioFormat(image_url))


@app.command()
def parquet(
    corpus: Source,
    out: NewOut,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="A column with the mask over the image, to look at.")
    ] = False,
    push: Push = None,
    private: Private = False,
    split: Split = None,
    size: NewSize = None,
    only_classes: OnlyClasses = None,
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Write Parquet for Hugging Face: pictures in rows, features with class names, a card.

    Example: `ovamgen export parquet corpus --out parquet`
    """
    from ovamgen.corpus.export.parquet import ParquetFormat

    asked = _Asked(corpus, out, split, size, only_classes, partial, source, as_json)
    asked.write(ParquetFormat(overlay=overlay), push=push, private=private)


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
    push: Push = None,
    private: Private = False,
    partial: Partial = False,
    source: ViewSource = None,
    as_json: AsJson = False,
) -> None:
    """Write a Hugging Face dataset: WebDataset tars, card, Croissant metadata, wids index.

    Example: `ovamgen export hf selected --out dataset`
    """
    from ovamgen.corpus.export.hf import export_hf as run

    _check_push(push, private, out)
    with Progress("samples") as progress:
        done = run(
            corpus,
            out,
            link=link,
            creator=creator,
            published=published,
            partial=partial,
            source=source,
            opened=lambda found: progress.start(found.samples),
            after_shard=progress.add,
        )
    _show(done, push, private, as_json)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every command that writes a folder in another tool's layout takes."""

    corpus: str
    out: str
    split: str | None
    size: str | None
    only_classes: str | None
    partial: bool
    source: str | None
    as_json: bool

    def write(self, form: ExportFormat, *, push: str | None = None, private: bool = False) -> None:
        """Writes the folder in the format's layout, sends it, and prints what was done."""
        from ovamgen.corpus.export.engine import export_folder
        from ovamgen.corpus.export.options import ExportOptions

        options = ExportOptions.parse(
            split=self.split, size=self.size, only_classes=self.only_classes
        )
        _check_push(push, private, self.out)
        with Progress("samples") as progress:
            done = export_folder(
                self.corpus,
                self.out,
                form,
                options,
                partial=self.partial,
                source=self.source,
                opened=lambda found: progress.start(found.samples),
                after_sample=progress.add,
            )
        _show(done, push, private, self.as_json)


def _check_push(push: str | None, private: bool, out: str) -> None:
    if push is not None:
        from ovamgen.corpus.export.push import check_push

        check_push(push, out)
    elif private:
        raise ConfigError("--private is about the repository that --push names: give both")


def _show(done: ExportResult | HfExport, push: str | None, private: bool, as_json: bool) -> None:
    """Sends the folder where that was asked, and prints what was done."""
    if push is None:
        show_result(done, as_json=as_json)
    else:
        from ovamgen.corpus.export.push import PushedExport, push_to_hub

        url = push_to_hub(done.out, push, private=private, say=say)
        show_result(PushedExport(export=done, url=url), as_json=as_json)
