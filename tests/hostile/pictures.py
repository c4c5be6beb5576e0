"""Pictures, masks and heatmaps that are larger than they look, or something else."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.fuzz.attacks import npz_bomb, png, text_bomb
from tests.hostile.forging import (
    attacks,
    change_samples,
    one_after_another,
    put,
    read_members,
    replace_member,
    with_column,
    write_members,
)
from tests.hostile.world import CORPUS, TABLE


def jpeg(width: int, height: int) -> bytes:
    """A grey RGB JPEG."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (99, 99, 99)).save(file, "JPEG", quality=1)
    return file.getvalue()


def large(side: int) -> Callable[[Path], None]:
    """One sample of so many pixels a side; its metadata says so as well, digests included."""

    def damage(root: Path) -> None:
        corpus = root / CORPUS
        members = dict(read_members(corpus))
        key = min(name.partition(".")[0] for name in members)
        digest = hashlib.sha256(bytes(side * side)).hexdigest()
        changed: dict[str, Any] = {"height": side, "width": side, "mask_sha256": digest}
        members[f"{key}.jpg"], members[f"{key}.mask.png"] = jpeg(side, side), png(side, side)
        values = json.loads(members[f"{key}.json"]) | changed
        members[f"{key}.json"] = json.dumps(values).encode()
        table = pq.read_table(corpus / TABLE)
        rows = [row | changed if row["key"] == key else row for row in table.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, table.schema), corpus / TABLE)
        write_members(corpus, members.items())

    return damage


def _other(kind: str, mode: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (64, 64)).save(file, kind)
    return file.getvalue()


def _previews(content: Callable[[], bytes]) -> Callable[[Path], None]:
    return with_column("previews", lambda n: pa.array([[content()]] * n, pa.list_(pa.binary())))


def _sizes(height: int, width: int) -> Callable[[Path], None]:
    def change(row: dict[str, Any]) -> None:
        row |= {"height": height, "width": width}

    return change_samples(change)


ATTACKS = [
    *attacks(
        "pictures",
        CORPUS,
        {
            "9,000 pixels a side": large(9_000),
            "13,000 pixels a side": large(13_000),
            "mask of 50,000 pixels a side": replace_member(
                "mask.png", lambda: png(50_000, 50_000, 1)
            ),
            "mask with a comment of 300 MB": replace_member("mask.png", text_bomb),
            "strip of 60,000 pixels": one_after_another(
                replace_member("jpg", lambda: jpeg(60_000, 1)),
                replace_member("mask.png", lambda: png(60_000, 1)),
            ),
            "image that is a PNG": replace_member("jpg", _other("PNG", "RGB")),
            "image that is a TIFF": replace_member("jpg", _other("TIFF", "RGB")),
            "image in CMYK": replace_member("jpg", _other("JPEG", "CMYK")),
            "image in EPS": replace_member("jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run\n"),
            "mask with a palette": replace_member("mask.png", _other("PNG", "P")),
            "mask of 16 bits": replace_member("mask.png", _other("PNG", "I;16")),
            "heatmaps of 1 GB": replace_member("heatmaps.npz", lambda: npz_bomb("maps.npy")),
            "heatmaps that are no npz": replace_member("heatmaps.npz", b"PK\x05\x06" + bytes(18)),
            "previews of 50,000 pixels a side": _previews(lambda: png(50_000, 50_000, 1)),
            "previews of 9,000 pixels a side": _previews(lambda: png(9_000, 9_000)),
            "sizes of 10^9": _sizes(10**9, 10**9),
            "negative sizes": _sizes(-5, 7),
            "no size": _sizes(0, 0),
        },
    ),
    *attacks(
        "pictures",
        "samples",
        {
            "annotation of 50,000 pixels a side": put(
                "samples/annotations/cat-1.png", lambda: png(50_000, 50_000, 1)
            ),
            "annotation of 9,000 pixels a side": put(
                "samples/annotations/cat-1.png", lambda: png(9_000, 9_000)
            ),
        },
    ),
    *attacks(
        "pictures",
        "voc",
        {
            "mask of 50,000 pixels a side": put(
                "voc/SegmentationClass/val_000.png", lambda: png(50_000, 50_000, 1)
            ),
            "both of 9,000 pixels a side": one_after_another(
                put("voc/SegmentationClass/val_000.png", lambda: png(9_000, 9_000)),
                put("voc/JPEGImages/val_000.jpg", lambda: jpeg(9_000, 9_000)),
            ),
        },
    ),
]
