"""All attacks."""

from __future__ import annotations

from tests.hostile import (
    documents,
    links,
    models,
    photos,
    pictures,
    tables,
    tars,
    texts,
    tokens,
    views,
    weights,
)
from tests.hostile.attack import Attack
from tests.hostile.commands import COMMANDS

ATTACKS: tuple[Attack, ...] = tuple(
    attack
    for module in (
        *(links, tars, pictures, photos, tables, documents, models, weights),
        *(tokens, texts, views),
    )
    for attack in module.ATTACKS
)

CASES: tuple[tuple[Attack, str], ...] = tuple(
    (attack, command) for attack in ATTACKS for command in COMMANDS[attack.target]
)
"""Every attack with every command that reads its target."""

_QUICK = {
    "links: lock to a key": "repair",
    "links: a folder of the user's": "repair",
    "links: logs to a folder": "status",
    "special files: pipe for run.yaml": "status",
    "tars: a link out": "select --copy",
    "tars: no pictures": "reannotate",
    "keys: escape code": "verify",
    "pictures: 9,000 pixels a side": "export voc",
    "Parquet: height as code": "export voc",
    "JSON and YAML: record deep": "report",
    "model folders: code beside the weights": "doctor",
    "models in one file: a pickle under the name": "doctor",
    "LoRAs: a layer of Python": "attribute",
    "token files: a call that opens": "tokens import",
    "text: escape codes in a file's name": "verify",
    "text: Markdown in fields": "generate",
    "labelled pictures: a pipe": "label",
    "views: source 's3://hostile-bucket/corpus'": "verify",
    "views: source 'reference://x/y'": "export hf",
    "views: source '\\x1b]0;owned\\x07'": "dataset",
}
"""One command for some of each family, every day."""

QUICK: tuple[tuple[Attack, str], ...] = tuple(
    (attack, _QUICK[attack.label])
    for attack in ATTACKS
    if attack.label in _QUICK and _QUICK[attack.label] in COMMANDS[attack.target]
)
