"""A corpus as Parquet for Hugging Face: a row for each sample, pictures as bytes in it.

``datasets`` finds the features in the schema's metadata and in the card, and needs no code; the
Hub's viewer shows the pictures.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from ovamgen.classes.class_entry import BACKGROUND
from ovamgen.corpus.export.classes import label_names
from ovamgen.corpus.export.engine import Export, ExportFormat
from ovamgen.corpus.export.parts import Part, Parts
from ovamgen.corpus.export.samples import ExportSample

ROWS_A_GROUP = 100
"""As the Hub asks for pictures: its viewer reads a group at a time."""
_PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


class ParquetFormat(ExportFormat):
    """``data/SPLIT-NNNNNN.parquet``, one for each shard and split."""

    name = "parquet"
    title = "Hugging Face's Parquet layout"

    def __init__(self, *, overlay: bool = False) -> None:
        """``overlay`` adds a column with the mask over the image, to look at."""
        self._overlay = overlay

    def request(self) -> dict[str, Any]:
        """Whether there is an overlay."""
        return {"overlay": self._overlay}

    def write_sample(self, sample: ExportSample, export: Export, part: Part) -> None:
        """A row of the shard's file for the split."""
        name = f"data/{sample.split}-{part.shard_index:06d}.parquet"
        rows = part.opened(
            name, lambda: _writing(export.place(name), _schema(self._columns(export)))
        )
        row: dict[str, Any] = {
            "key": sample.key,
            "image": {"bytes": sample.jpeg, "path": f"{sample.key}.jpg"},
            "mask": {"bytes": sample.png, "path": f"{sample.key}.png"},
            "caption": sample.caption,
            "class_ids": list(sample.class_ids),
        }
        if self._overlay:
            picture = _overlay(sample, export)
            row["overlay"] = {"bytes": picture, "path": f"{sample.key}-overlay.jpg"}
        rows.add(row)

    def finish(self, export: Export, parts: Parts, counts: dict[str, int]) -> None:
        """Adds no file: those of the shards are whole."""

    def describe(self, export: Export, parts: Parts) -> dict[str, Any]:
        """Files by split, and the features in the card's notation."""
        sizes: dict[str, int] = {}
        counts: dict[str, int] = {}
        for split, _ in parts.samples():
            counts[split] = counts.get(split, 0) + 1
        for path in sorted((export.root / "data").iterdir()):
            split = path.name.rpartition("-")[0]
            sizes[split] = sizes.get(split, 0) + path.stat().st_size
        names = {str(label): name for label, name in enumerate(label_names(export.classes))}
        features = [
            {"name": name, "dtype": "image" if kind == "Image" else "string"}
            if kind != "classes"
            else {"name": name, "list": {"class_label": {"names": names}}}
            for name, kind in self._kinds()
        ]
        info = {
            "features": features,
            "splits": [
                {"name": split, "num_bytes": sizes[split], "num_examples": counts[split]}
                for split in sorted(counts)
            ],
            "download_size": sum(sizes.values()),
            "dataset_size": sum(sizes.values()),
        }
        return {
            "paths": {split: [f"data/{split}-*.parquet"] for split in sorted(counts)},
            "tags": ["parquet"],
            "dataset_info": yaml.safe_dump(
                {"dataset_info": info}, sort_keys=False, allow_unicode=True
            ),
            "overlay": self._overlay,
        }

    def _kinds(self) -> list[tuple[str, str]]:
        kinds = [
            ("key", "string"),
            ("image", "Image"),
            ("mask", "Image"),
            ("caption", "string"),
            ("class_ids", "classes"),
        ]
        return [*kinds, ("overlay", "Image")] if self._overlay else kinds

    def _columns(self, export: Export) -> dict[str, dict[str, Any]]:
        """The features as ``datasets`` writes them into a schema."""
        classes = {"_type": "ClassLabel", "names": label_names(export.classes)}
        features: dict[str, dict[str, Any]] = {
            "string": {"_type": "Value", "dtype": "string"},
            "Image": {"_type": "Image"},
            # every version of datasets knows it by this name
            "classes": {"_type": "Sequence", "feature": classes},
        }
        return {name: features[kind] for name, kind in self._kinds()}


class _Rows:
    """Rows on their way into a file, a group of them in memory."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == ROWS_A_GROUP:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows.clear()


@contextmanager
def _writing(path: Path, schema: pa.Schema) -> Iterator[_Rows]:
    # pictures are compressed already, and no two are equal
    with pq.ParquetWriter(path, schema, use_dictionary=False, write_page_index=True) as writer:
        rows = _Rows(writer, schema)
        yield rows
        rows.flush()


def _schema(features: dict[str, dict[str, Any]]) -> pa.Schema:
    kinds = {"Value": pa.string(), "Image": _PICTURE, "Sequence": pa.list_(pa.int64())}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(
        [(name, kinds[feature["_type"]]) for name, feature in features.items()], metadata
    )


def _overlay(sample: ExportSample, export: Export) -> bytes:
    """A JPEG of the image, the colours of the labels half over it; the background is clear."""
    colours = export.palette[sample.labels]
    mixed = ((sample.image.astype(np.uint16) + colours) // 2).astype(np.uint8)
    clear = (sample.labels == BACKGROUND)[..., None]
    buffer = io.BytesIO()
    Image.fromarray(np.where(clear, sample.image, mixed)).save(
        buffer, "JPEG", quality=90, subsampling=0
    )
    return buffer.getvalue()
