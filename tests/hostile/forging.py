"""Parts of a corpus taken apart and put together again, with digests that fit."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.hostile.world import CORPUS, TABLE, TAR, vouch

Members = list[tuple[str, bytes]]


def read_members(corpus: Path) -> Members:
    """Name and content of the first tar's members."""
    with tarfile.open(corpus / TAR) as tar:
        return [(header.name, tar.extractfile(header).read()) for header in tar]


def write_members(corpus: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """The first tar with these members, and its record."""
    with tarfile.open(corpus / TAR, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    vouch(corpus)


Content = bytes | Callable[[], bytes]
"""Bytes, or what makes them where that takes long."""


def replace_member(extension: str, content: Content) -> Callable[[Path], None]:
    """Gives the first sample that has the member another content."""

    def damage(root: Path) -> None:
        members = read_members(root / CORPUS)
        place = next(i for i, m in enumerate(members) if m[0].endswith(f".{extension}"))
        members[place] = (members[place][0], content() if callable(content) else content)
        write_members(root / CORPUS, members)

    return damage


def change_table(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    """Makes another metadata table of the first shard's."""

    def damage(root: Path) -> None:
        path = root / CORPUS / TABLE
        table = pq.read_table(path)
        notes = table.schema.metadata
        made = change(table)
        if made.schema.metadata is None:
            made = made.replace_schema_metadata(notes)
        pq.write_table(made, path, compression="zstd")
        vouch(root / CORPUS)

    return damage


def with_column(name: str, column: Callable[[int], pa.Array]) -> Callable[[Path], None]:
    """Gives the table another column, made for its number of rows."""

    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(name), name, column(table.num_rows))

    return change_table(change)


def change_samples(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Changes the metadata of every sample, in the table and in the tar, in place."""

    def damage(root: Path) -> None:
        corpus = root / CORPUS
        path = corpus / TABLE
        table = pq.read_table(path)
        rows = table.to_pylist()
        for row in rows:
            change(row)
        pq.write_table(pa.Table.from_pylist(rows, table.schema), path, compression="zstd")
        members = []
        for name, content in read_members(corpus):
            if name.endswith(".json"):
                values = json.loads(content)
                change(values)
                text = json.dumps(values, ensure_ascii=False, sort_keys=True)
                members.append((f"{values['key']}.json", text.encode("utf-8", "replace")))
            else:
                members.append((name, content))
        write_members(corpus, members)

    return damage


def rename_key(new: str, old: str = "00000000001") -> Callable[[Path], None]:
    """Gives a sample another key, everywhere."""

    def damage(root: Path) -> None:
        def change(row: dict[str, Any]) -> None:
            row["key"] = new if row["key"] == old else row["key"]

        change_samples(change)(root)
        members = read_members(root / CORPUS)
        renamed = [
            (new + n.removeprefix(old) if n.startswith(f"{old}.") else n, c) for n, c in members
        ]
        write_members(root / CORPUS, renamed)

    return damage


def change_json(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Changes a JSON file in place; or what the change returns takes its place."""

    def damage(root: Path) -> None:
        values = json.loads((root / name).read_bytes())
        made = change(values)
        text = json.dumps(
            values if made is None else made,
            sort_keys=True,
            ensure_ascii=False,
            separators=(",", ":"),
        )
        (root / name).write_text(text, "utf-8", "surrogatepass")

    return damage


def change_yaml(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    """As `change_json`, of YAML."""

    def damage(root: Path) -> None:
        values = yaml.safe_load((root / name).read_text("utf-8"))
        made = change(values)
        text = yaml.safe_dump(values if made is None else made, sort_keys=True, allow_unicode=True)
        (root / name).write_text(text, "utf-8")

    return damage


def set_at(*path: str | int, to: Any) -> Callable[[Any], None]:
    """A change of one value in nested ones; folders on the way are made."""

    def change(values: Any) -> None:
        node = values
        for step in path[:-1]:
            node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
        node[path[-1]] = to

    return change


def put(name: str, content: Content) -> Callable[[Path], None]:
    """Gives a file another content."""

    def damage(root: Path) -> None:
        (root / name).write_bytes(content() if callable(content) else content)

    return damage


def put_tar(content: Callable[[], bytes]) -> Callable[[Path], None]:
    """Gives the first tar another content, and a record that fits it."""

    def damage(root: Path) -> None:
        (root / CORPUS / TAR).write_bytes(content())
        vouch(root / CORPUS)

    return damage


def one_after_another(*damages: Callable[[Path], object]) -> Callable[[Path], None]:
    """All of them."""

    def damage(root: Path) -> None:
        for each in damages:
            each(root)

    return damage


def attacks(family: str, target: str, named: Mapping[str, Callable[[Path], object]]) -> list[Any]:
    """Attacks of one family on one target."""
    from tests.hostile.attack import Attack

    return [
        Attack(family=family, name=name, target=target, damage=damage)
        for name, damage in named.items()
    ]
