"""``classes``: the sets that ship, what stands in one, and what its words find."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ovamgen.cli.options import AsJson, table_console
from ovamgen.console import log_format

if TYPE_CHECKING:
    from ovamgen.plan.caption_words import CaptionWords

ClassSetName = Annotated[
    str,
    typer.Argument(metavar="SET", help="voc, coco, ade150, cityscapes19, FILE.yaml, or a,b,c."),
]


def list_sets(as_json: AsJson = False) -> None:
    """List the class sets that ship.

    Example: `ovamgen classes list`
    """
    from ovamgen.classes.loading import BUILT_IN, built_in

    sets = [built_in(name) for name in BUILT_IN]
    if as_json:
        log_format.show(
            json.dumps([{"name": found.name, "classes": len(found)} for found in sets], indent=2)
        )
        return
    for each in sets:
        first = ", ".join(entry.phrase for entry in each.classes[:5])
        log_format.show(f"{each.name:14}{len(each):4} classes: {first}, ...")


def show(classes: ClassSetName, as_json: AsJson = False) -> None:
    """Show the classes of a set: ids, names, phrases, colours and the words that name them.

    --json prints the set in the form of a class file, which is YAML as well: a beginning for an
    own one.

    Example: `ovamgen classes show voc`

    Example: `ovamgen classes show cat,dog,forklift --json`
    """
    from ovamgen.classes.loading import load_class_set

    found = load_class_set(classes)
    if as_json:
        log_format.show(json.dumps(found.as_record(), indent=2, ensure_ascii=False))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ovamgen.classes.labels import palette_of

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("id", "name", "phrase", "colour", "words in captions", "not"):
        table.add_column(name, justify="right" if name == "id" else "left", overflow="fold")
    colours = palette_of(found)
    for entry in found.classes:
        colour = "#" + bytes(colours[entry.id]).hex()
        words = dict.fromkeys((*entry.names, *entry.synonyms, *entry.forms))
        table.add_row(
            str(entry.id),
            Text(entry.name),
            Text(", ".join(entry.attributed)),
            Text.assemble(("\u25a0 ", colour), colour),
            Text(", ".join(word for word in words if word not in (entry.name, entry.phrase))),
            Text(", ".join((*entry.excluded, *entry.excluded_forms))),
        )
    table_console(120).print(table)
    log_format.show(f"{found.name}: {len(found)} classes, digest {found.digest[:12]}")


def check(
    classes: ClassSetName,
    captions: Annotated[
        str, typer.Option(help="COCO captions JSON, CSV, TSV, JSONL, Parquet or text; file or URL.")
    ],
    instances: Annotated[
        str | None,
        typer.Option(help="COCO instances JSON of the same images: how often words are right."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count what each class finds in captions, with its words and examples.

    A word that two classes claim is an error. The plural of one class that is written as another's
    goes to the other, and is listed. With --instances, precision is the share of the captions
    naming a class whose image shows it, and recall the share of the captions of images showing it
    that name it.

    Example: `ovamgen classes check yard.yaml --captions captions.csv`

    Example: `ovamgen classes check coco --captions captions_val2017.json
    --instances instances_val2017.json`
    """
    from ovamgen.classes.loading import load_class_set
    from ovamgen.plan.caption_words import find_words
    from ovamgen.plan.captions import open_captions, read_instances
    from ovamgen.run.inputs import captions_path

    loaded = load_class_set(classes)
    shown = read_instances(instances, loaded) if instances else None
    found = find_words(loaded, open_captions(captions_path(captions)).captions, shown)
    if as_json:
        log_format.show(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        _show_words(found, judged=shown is not None)


def _show_words(found: CaptionWords, *, judged: bool) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("class")
    table.add_column("captions", justify="right")
    for name in ("precision", "recall", "images named") if judged else ():
        table.add_column(name, justify="right")
    table.add_column("words", overflow="fold")
    if not judged:
        table.add_column("example", overflow="fold")
    for words in found.classes:
        cells: list[Text | str] = [Text(words.entry.name), f"{words.captions:,}"]
        if (agreement := words.agreement) is not None:
            cells += [_percent(agreement.precision), _percent(agreement.recall)]
            cells.append(f"{agreement.images_named} of {agreement.images}")
        cells.append(Text(", ".join(f"{word} {n}" for word, n in words.words.most_common(6))))
        if not judged:
            cells.append(Text(words.examples[0] if words.examples else ""))
        table.add_row(*cells, style="" if words.captions else "dim")
    table_console(120).print(table)
    log_format.show(f"{found.captions:,} captions, {found.without_class:,} of them name no class")
    if judged:
        total = found.agreement
        log_format.show(
            f"of the images with instances: precision {_percent(total.precision)} ("
            f"{total.right:,} of {total.right + total.wrong:,}), recall {_percent(total.recall)} ("
            f"{total.right:,} of {total.right + total.silent:,})"
        )
    for contest in found.contests:
        log_format.show(
            f"'{contest.phrase}', the plural in {contest.plural_of.name}, names "
            f"{contest.taken_by.name}, which has it written"
        )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
