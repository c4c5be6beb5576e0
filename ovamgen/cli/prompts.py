"""``prompts``: captions for classes that nobody captioned."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from ovamgen.cli.options import Device, device_here
from ovamgen.console.log_format import show
from ovamgen.errors import ConfigError

_HEADER = ("id", "caption", "targets")


def prompts(
    classes: Annotated[
        str, typer.Option(help="voc, coco, ade150, cityscapes19, FILE.yaml, or a,b,c.")
    ],
    per_class: Annotated[int, typer.Option(help="Prompts in which each class is a target.")],
    out: Annotated[str, typer.Option(help="The .csv file to write: id, caption, targets.")],
    seed: Annotated[int, typer.Option(help="Decides what is drawn.")] = 0,
    max_classes: Annotated[int, typer.Option(help="At most so many classes a prompt, 1 to 3.")] = 3,
    template: Annotated[
        str | None,
        typer.Option(help="YAML file of sentences and words, instead of those that ship."),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(help="Model that rewrites them: a folder of transformers, or a hub id."),
    ] = None,
    device: Device = None,
) -> None:
    """Write captions for the classes of a set, each class in equally many, no two alike.

    They are composed of templates, decided by the seed. With --llm a language model rewrites them;
    a rewrite that loses a target's word is thrown away, and the template kept.

    Example: `ovamgen prompts --classes cat,dog,horse --per-class 20 --out captions.csv`
    """
    from ovamgen.classes.loading import load_class_set
    from ovamgen.classes.prompts.compose import compose_prompts
    from ovamgen.classes.prompts.templates import load_templates
    from ovamgen.console.wording import counted
    from ovamgen.storage.whole_files import check_place, write_whole

    if not out.endswith(".csv"):
        raise ConfigError(f"--out must end in .csv, got {out}")
    check_place(Path(out))
    loaded = load_class_set(classes)
    found = compose_prompts(
        loaded, load_templates(template), per_class=per_class, max_classes=max_classes, seed=seed
    )
    told = f"{counted(len(found), 'prompt')} for {len(loaded)} classes, {per_class} of each"
    if llm is not None:
        from ovamgen.classes.prompts.rewriting import Rewriter, rewrite_prompts

        rewriter = Rewriter(llm, device or device_here())
        found, rewritten = rewrite_prompts(found, loaded, rewriter)
        told += f", {rewritten:,} of them rewritten"
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    for number, prompt in enumerate(found):
        targets = ";".join(target.name for target in prompt.targets)
        writer.writerow([number, prompt.text, targets])
    write_whole(Path(out), text.getvalue().encode())
    show(f"{told}: {out}")
