"""Parquet: columns of other types, rows without end, values that no ovamgen writes."""

from __future__ import annotations

import pyarrow as pa

from tests.fuzz.attacks import parquet, parquet_footer
from tests.hostile.forging import (
    attacks,
    change_table,
    one_after_another,
    put,
    with_column,
)
from tests.hostile.world import CORPUS, TABLE, VIEW, vouch

CODE = "__import__('pathlib').Path('CODE_RAN').touch()"


def _texts(values: str) -> object:
    return lambda n: pa.array([values] * n)


_COLUMNS = {
    "class_ids as text": ("class_ids", lambda n: pa.array(["1"] * n)),
    "class_ids as numbers": ("class_ids", lambda n: pa.array([1] * n)),
    "class_ids as lists of text": ("class_ids", lambda n: pa.array([["cat"]] * n)),
    "class_ids as lists of lists": ("class_ids", lambda n: pa.array([[[1]]] * n)),
    "class_ids as fractions": ("class_ids", lambda n: pa.array([[1.5]] * n)),
    "class_ids as structs": ("class_ids", lambda n: pa.array([[{"a": 1}]] * n)),
    "class_ids empty": ("class_ids", lambda n: pa.array([[]] * n, pa.list_(pa.int64()))),
    "class_ids null": ("class_ids", lambda n: pa.array([None] * n, pa.list_(pa.int64()))),
    "class_ids of 2^62": ("class_ids", lambda n: pa.array([[2**62]] * n)),
    "class_ids negative": ("class_ids", lambda n: pa.array([[-1]] * n)),
    "class_names as bytes": ("class_names", lambda n: pa.array([[b"\xff"]] * n)),
    "class_names longer": ("class_names", lambda n: pa.array([["cat", "dog", "cow"]] * n)),
    "height as code": ("height", lambda n: pa.array([f"1)\n{CODE}\nx = (1"] * n)),
    "width as code": ("width", lambda n: pa.array([CODE] * n)),
    "height as a fraction": ("height", lambda n: pa.array([0.5] * n)),
    "height null": ("height", lambda n: pa.array([None] * n, pa.int64())),
    "height as a list": ("height", lambda n: pa.array([[1]] * n)),
    "scores as text": ("scores", lambda n: pa.array([["high"]] * n)),
    "scores not finite": ("scores", lambda n: pa.array([[float("nan")]] * n)),
    "scores of 10^300": ("scores", lambda n: pa.array([[1e300]] * n)),
    "areas empty": ("areas", lambda n: pa.array([[]] * n, pa.list_(pa.float64()))),
    "areas negative": ("areas", lambda n: pa.array([[-5.0]] * n)),
    "status as a number": ("status", lambda n: pa.array([1] * n)),
    "status null": ("status", lambda n: pa.array([None] * n, pa.string())),
    "status of another kind": ("status", lambda n: pa.array(["maybe"] * n)),
    "all failed": ("status", lambda n: pa.array(["failed"] * n)),
    "stage null": ("stage", lambda n: pa.array([None] * n, pa.string())),
    "key as a number": ("key", lambda n: pa.array(range(n))),
    "key null": ("key", lambda n: pa.array([None] * n, pa.string())),
    "key as bytes": ("key", lambda n: pa.array([b"\xff%d" % i for i in range(n)])),
    "key as a dictionary": (
        "key",
        lambda n: pa.array([f"{i:011d}" for i in range(n)]).dictionary_encode(),
    ),
    "one key for all": ("key", lambda n: pa.array(["00000000001"] * n)),
    "unsafe as text": ("unsafe", lambda n: pa.array(["no"] * n)),
    "unsafe null": ("unsafe", lambda n: pa.array([None] * n, pa.bool_())),
    "previews as text": ("previews", lambda n: pa.array([["x"]] * n)),
    "previews null": ("previews", lambda n: pa.array([None] * n, pa.list_(pa.binary()))),
    "previews as a number": ("previews", lambda n: pa.array([5] * n)),
    "image_sha256 as a number": ("image_sha256", lambda n: pa.array([5] * n)),
    "caption as a list": ("caption", lambda n: pa.array([["a"]] * n)),
    "caption_id as text": ("caption_id", lambda n: pa.array(["a"] * n)),
    "seed as text": ("seed", lambda n: pa.array(["a"] * n)),
}

ATTACKS = [
    *attacks(
        "Parquet",
        CORPUS,
        {
            **{name: with_column(*column) for name, column in _COLUMNS.items()},
            "no column but keys": change_table(lambda table: table.select(["key"])),
            "no column": change_table(lambda table: table.select([])),
            "no row": change_table(lambda table: table.slice(0, 0)),
            "rows twice": change_table(lambda table: pa.concat_tables([table, table])),
            "a column twice": change_table(lambda table: table.append_column("key", table["key"])),
            "a footer of 4 GB": one_after_another(
                put(f"{CORPUS}/{TABLE}", lambda: parquet_footer(2**32 - 1)),
                lambda root: vouch(root / CORPUS),
            ),
            "2 million rows": one_after_another(
                put(f"{CORPUS}/{TABLE}", lambda: parquet({"key": "0" * 1000}, 2_000_000)),
                lambda root: vouch(root / CORPUS),
            ),
            "text in place of it": one_after_another(
                put(f"{CORPUS}/{TABLE}", b"PAR1 it is not PAR1"), lambda root: vouch(root / CORPUS)
            ),
            "plan of 2 million rows": put(
                f"{CORPUS}/plan.parquet", lambda: parquet({"key": "0" * 1000}, 2_000_000)
            ),
            "plan of another table": put(
                f"{CORPUS}/plan.parquet", lambda: parquet({"a": 1, "b": "c"}, 5)
            ),
        },
    ),
    *attacks(
        "Parquet",
        VIEW,
        {
            "2 million rows": put(
                f"{VIEW}/selection.parquet",
                lambda: parquet({"key": "0" * 1000, "kept": True}, 2_000_000),
            ),
            "keys as numbers": put(
                f"{VIEW}/selection.parquet", lambda: parquet({"key": 1, "kept": True}, 5)
            ),
            "kept as text": put(
                f"{VIEW}/selection.parquet", lambda: parquet({"key": "1", "kept": "x"}, 5)
            ),
            "other columns": put(f"{VIEW}/selection.parquet", lambda: parquet({"a": 1}, 5)),
        },
    ),
]
