"""Text that is shown: markup, cards, escape codes, formulas, marks of bidirectional text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.hostile.documents import _both
from tests.hostile.forging import (
    attacks,
    change_samples,
    change_table,
    one_after_another,
)
from tests.hostile.runner import MARKUP
from tests.hostile.world import CORPUS

TEXTS = {
    "markup": MARKUP,
    "Markdown": f"`| x |\n\n[click](javascript:hostile)\n![x](http://hostile.invalid/x)\n{MARKUP}",
    "YAML": f'"\n---\nlicense: mit\n# "{MARKUP}\n- &a [*a]',
    "escape codes": "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b5m\x00\x08\r\x85",
    "bidirectional": "\u202edlrow\u202c \u2066olleh\u2069 \u200f",
    "formula": '=HYPERLINK("http://hostile.invalid","x")\n+1\n@SUM(1)',
    "template": "{{ 7*7 }} {% raw %} {{ config }} ${7*7} @HEIGHT@",
    "rich markup": "[link=http://hostile.invalid]x[/link] [bold red]y [/] [/nothing]",
    "shell": "x'; touch CODE_RAN; $(touch CODE_RAN) `touch CODE_RAN` #",
    "100,000 words": "word " * 100_000,
    "one word of 1 MB": "w" * 10**6,
    "half a character": "a\ud800b",
}
"""By what they are for."""


_FIELDS = ("caption", "prompt", "model", "tokens", "method", "mask_preset", "scheduler")


def _everywhere(text: str) -> Any:
    """In every field of a sample that is text but its key, in the settings of the run."""
    stored = text.encode("utf-8", "replace").decode()

    def change(row: dict[str, Any]) -> None:
        row |= dict.fromkeys(_FIELDS, stored)
        count = len(row["class_ids"] or [1])
        row |= {"class_names": [stored] * count, "phrases": [stored] * count}

    of_run = [("model", "id"), ("model", "revision"), ("config", "plan", "captions")]
    of_run += [("config", "synthesis", "scheduler"), ("config", "masks", "preset")]
    of_run += [("ovamgen_version",), ("derived", "command")]
    return one_after_another(
        change_samples(change), *(_both(*path, to=stored) for path in of_run[:5])
    )


def _failed(text: str) -> Any:
    """The last sample failed, for such a reason."""
    stored = text.encode("utf-8", "replace").decode()

    def change(table: Any) -> Any:
        rows = table.to_pylist()
        rows[-1] |= {"status": "failed", "stage": "masks", "reason": stored}
        return type(table).from_pylist(rows, table.schema)

    return change_table(change)


def _file_named(text: str) -> Any:
    def damage(root: Path) -> None:
        name = (
            text.replace("/", "_")
            .replace("\0", "")[:80]
            .encode("utf-8", "surrogateescape" if False else "replace")
        )
        path = bytes(root / CORPUS) + b"/" + name
        with open(path, "wb") as file:
            file.write(b"x")

    return damage


ATTACKS = [
    *attacks(
        "text", CORPUS, {f"{name} in fields": _everywhere(text) for name, text in TEXTS.items()}
    ),
    *attacks(
        "text", CORPUS, {f"{name} in a reason": _failed(text) for name, text in TEXTS.items()}
    ),
    *attacks(
        "text",
        CORPUS,
        {f"{name} in a file's name": _file_named(text) for name, text in TEXTS.items()},
    ),
    *attacks(
        "text",
        CORPUS,
        {
            "bytes that are no text in a file's name": lambda root: open(
                bytes(root / CORPUS) + b"/\xff\xfe\x1b[2J", "wb"
            ).close()
        },
    ),
]
