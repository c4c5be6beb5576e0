"""The dataset card: what a corpus holds, how it was made, how to load it, under which terms."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from ovamgen.classes.class_entry import BACKGROUND
from ovamgen.classes.loading import from_saved, is_default
from ovamgen.console.log_format import printable
from ovamgen.console.wording import readable_bytes
from ovamgen.records import ShardRecord

_TEMPLATE = "card.md.j2"

_MARKUP = re.compile(r"[\\`*_{}\[\]<>()#!|~&]")
_MAX_CELL = 400

DOCUMENTS_EDITION = 2
"""Raised where the text of the card or the drawing of the contact sheet changes.

It stands in ``run.yaml``: those of another edition cannot be compared with what is made here.
"""

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclass(frozen=True, slots=True)
class ClassCount:
    """How many samples show a class."""

    class_id: int
    name: str
    phrase: str
    samples: int


def render_card(
    records: Sequence[ShardRecord],
    classes: Sequence[ClassCount],
    run_info: Mapping[str, Any],
    *,
    dataset_info: str = "",
) -> str:
    """The card as Markdown with the Hub's YAML header (conventions 3.6).

    Args:
        records: of all shards, by ascending index.
        classes: the classes that occur; the background stands for samples that show none.
        run_info: as for `ovamgen.shards.manifest.write_indexes`; its ``config`` names the set of
            the classes, VOC's where it names none.
        dataset_info: lines for the end of the YAML header: features and counts.

    Raises:
        ConfigError: what ``config`` names is no class set.
    """
    samples = sum(record.samples for record in records)
    full = [record for record in records if record.samples]
    splits = sorted({record.split for record in full}) or ["train"]
    # Loaders take column types from the first tar, so one without samples must not be it.
    paths = {
        split: [f"{split}-*.tar"]
        if len(full) == len(records)
        else [record.name for record in full if record.split == split]
        for split in splits
    }
    config = run_info.get("config")
    classes_of_run = from_saved(config if isinstance(config, Mapping) else {})
    return render(
        _TEMPLATE,
        run_info,
        set_name="PASCAL VOC" if is_default(classes_of_run) else f"`{classes_of_run.name}`",
        tags=["webdataset"],
        paths=paths,
        dataset_info=dataset_info,
        split=splits[0],
        samples=samples,
        failed=sum(record.failed for record in records),
        shards=len(records),
        size=readable_bytes(sum(record.size_bytes for record in records)),
        size_category=size_category(samples),
        classes=[
            replace(row, name=cell(row.name), phrase=cell(row.phrase))
            for row in classes
            if row.class_id != BACKGROUND
        ],
        without_class=sum(row.samples for row in classes if row.class_id == BACKGROUND),
    )


def render(template: str, run_info: Mapping[str, Any], **values: Any) -> str:
    """A card from a template of the package, with what every card says of how samples were made.

    Args:
        template: its file's name.
        run_info: as for `render_card`.
        values: what else the template has a place for.
    """
    environment = Environment(
        loader=FunctionLoader(_text_of),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(
        made=_made(run_info),
        trained=bool(value_at(run_info, "model", "trained") is not False),
        labelled=is_labelled(run_info),
        weights=weights_terms(run_info),
        **values,
    )


def is_labelled(run_info: Mapping[str, Any]) -> bool:
    """Whether the images were there before, and nothing but their masks was made."""
    return bool(value_at(run_info, "config", "label", "pictures"))


def size_category(samples: int) -> str:
    """The Hub's name for so many samples."""
    return next((name for limit, name in _SIZES if samples < limit), "n>1M")


def _text_of(name: str) -> str:
    return (resources.files("ovamgen") / "data" / name).read_text("utf-8")


def _made(run_info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the samples were made with, as (label, value); what is not known is left out."""
    model = without_folder(value_at(run_info, "model", "id"))
    revision = value_at(run_info, "model", "revision")
    rows = [
        ("diffusion model", f"{model}@{revision}" if model and revision else model),
        ("LoRAs (weight)", loras_of(run_info)),
        ("sha256 of its weights", value_at(run_info, "model", "weights_sha256")),
        ("captions", without_folder(value_at(run_info, "config", "plan", "captions"))),
        ("sha256 of the captions", value_at(run_info, "inputs", "captions")),
        ("pictures", without_folder(value_at(run_info, "config", "label", "pictures"))),
        *drawn_by(run_info),
        ("guidance scale", value_at(run_info, "config", "synthesis", "guidance")),
        ("attribution method", value_at(run_info, "config", "attribution", "method")),
        ("mask preset", value_at(run_info, "config", "masks", "preset")),
        ("threshold tau", value_at(run_info, "config", "masks", "tau")),
        ("run's seed", value_at(run_info, "config", "plan", "seed")),
        ("fingerprint", run_info.get("fingerprint")),
        ("derived by", value_at(run_info, "derived", "command")),
        ("derived from fingerprint", value_at(run_info, "derived", "from_fingerprint")),
        ("ovamgen", run_info.get("ovamgen_version")),
    ]
    return [(label, _code(str(value))) for label, value in rows if value not in (None, "")]


def drawn_by(run_info: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """How images were drawn, or at which timesteps pictures were looked at."""
    probe = value_at(run_info, "config", "attribution", "probe")
    timesteps = ", ".join(map(str, probe)) if isinstance(probe, list) else ""
    if is_labelled(run_info):
        return [("timesteps", timesteps)]
    return [
        ("scheduler", value_at(run_info, "config", "synthesis", "scheduler")),
        ("steps", value_at(run_info, "config", "synthesis", "steps")),
        ("timesteps of the maps", timesteps),
    ]


def _code(text: str) -> str:
    """Text for a cell of a table, between backticks: it stays in there, whatever it is."""
    return _one_line(text).replace("`", "'").replace("<", "&lt;").replace("|", "\\|")


def cell(text: object) -> str:
    """Text for a cell of a table, as text and never as markup."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", _one_line(str(text)))


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))[:_MAX_CELL]


def without_folder(value: Any) -> str:
    """A hub id or URL as it is; of a path on some machine only the last part; "" of nothing."""
    text = str(value or "")
    return PurePosixPath(text).name if text.startswith(("/", "~", ".")) else text


def loras_of(run_info: Mapping[str, Any]) -> str:
    """The LoRAs of a run by name, with their weights: ``style.safetensors (0.8)``; "" of none."""
    loras = value_at(run_info, "config", "model", "loras")
    found = [lora for lora in loras if isinstance(lora, Mapping)] if isinstance(loras, list) else []
    return ", ".join(f"{without_folder(one.get('path'))} ({one.get('weight')})" for one in found)


def weights_terms(run_info: Mapping[str, Any]) -> str:
    """Which terms the weights come under: ``own``, ``openrail`` or ``other``."""
    model = str(value_at(run_info, "model", "id") or "")
    if loras_of(run_info) or model.endswith(".safetensors"):
        # a name in a path says nothing of who tuned the weights
        return "other"
    if model == "mini" or model.startswith("random:"):
        return "own"
    return "openrail" if "stable-diffusion-v1" in model.lower() else "other"


def value_at(data: Mapping[str, Any], *path: str) -> Any:
    """The value at a path of keys; None where there is none."""
    node: Any = data
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
