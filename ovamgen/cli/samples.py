"""``samples``: pictures for people to annotate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ovamgen.cli.options import (
    Captions,
    ConfigFile,
    Device,
    Guidance,
    Height,
    Instances,
    Limit,
    Loras,
    Model,
    Sets,
    Steps,
    Width,
    resolve,
    resolve_here,
)
from ovamgen.console.log_format import show
from ovamgen.console.progress import Progress
from ovamgen.errors import ConfigError

if TYPE_CHECKING:
    from ovamgen.classes.class_set import ClassSet

VOC_SIM = "voc-sim"


def samples(
    out: Annotated[str, typer.Option(help="The folder to write; one begun before is completed.")],
    model: Model = None,
    lora: Loras = None,
    per_class: Annotated[
        int | None, typer.Option(help="Samples of each class; 1 where no captions are given.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="SET|FILE|a,b,c",
            help="What is drawn: a class set, a class file (.yaml), or names with commas between "
            "them; names that VOC or the configuration's set has are a choice of it.",
            show_default="voc",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Holds {class}. [default: A photograph of a {class}]")
    ] = None,
    captions: Captions = None,
    instances: Instances = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Of the captions: general or coco-cap. Without captions: voc-sim, the published "
            "prompts to the letter ('a aeroplane')."
        ),
    ] = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of the drawing of seeds.")] = 1996,
    steps: Steps = None,
    guidance: Guidance = None,
    height: Height = None,
    width: Width = None,
    device: Device = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Draw pictures for people to annotate: one prompt for every class, or captions.

    Example: `ovamgen samples --model mini --per-class 2 --out samples`

    Own classes: `ovamgen samples --model mini --classes pets.yaml --out samples`

    From captions: `ovamgen samples --captions captions_val2017.json
    --instances instances_val2017.json --preset coco-cap --out samples`
    """
    if captions is not None and prompt is not None:
        raise ConfigError("--prompt and --captions are two ways of saying what to draw: give one")
    if published := preset == VOC_SIM:
        if captions is not None or prompt is not None:
            raise ConfigError(
                f"--preset {VOC_SIM} has prompts of its own: leave --captions and --prompt out"
            )
        preset = None
    if captions is None and (instances or preset or limit):
        raise ConfigError("--instances, --preset and --limit are about captions: give --captions")
    own: str | None = None
    names: list[str] = []
    if classes is not None:
        own, names = _classes(classes, resolve(config, {}, sets).classes)
    flags = {
        "classes": own,
        "plan": {
            "captions": captions,
            "instances": instances,
            "preset": preset,
            "per_class": per_class if captions else None,
            "limit": limit,
            "classes": names if captions and names else None,
        },
        "model": {"id": model, "loras": lora or None, "device": device},
        "synthesis": {"steps": steps, "guidance": guidance, "height": height, "width": width},
    }
    resolved = resolve_here(config, flags, sets)
    from ovamgen.pictures.draw import PROMPT, caption_samples, class_samples, draw_samples

    if captions is None:
        wanted = class_samples(
            per_class=1 if per_class is None else per_class,
            classes=resolved.classes,
            names=names,
            prompt=PROMPT if prompt is None else prompt,
            seed=seed,
            to_the_letter=published,
        )
    else:
        from ovamgen.run.inputs import plan_for

        wanted = caption_samples(plan_for(resolved).specs, seed=seed)
    with Progress("pictures") as counting:
        done = draw_samples(resolved, wanted, out, on_start=counting.start, on_picture=counting.add)
    show("\n".join(done.lines()))
    done.check_complete()


def _classes(asked: str, there: ClassSet) -> tuple[str | None, list[str]]:
    """The set that is asked for, if another, and the names of a choice."""
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if names and all(_is_of(there, name) for name in names):
        return None, names
    return asked, []


def _is_of(classes: ClassSet, name: str) -> bool:
    try:
        return bool(classes.by_name(name))
    except ConfigError:
        return False
