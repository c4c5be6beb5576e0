"""A corpus as the archive that CVAT imports as ``Segmentation mask 1.1``.

VOC's layout with masks in colours and a ``labelmap.txt`` that names them
(https://docs.cvat.ai/docs/dataset_management/formats/format-smask/).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.corpus.export.engine import Export, ExportFormat
from ovamgen.corpus.export.parts import Part, Parts
from ovamgen.corpus.export.samples import ExportSample
from ovamgen.errors import ConfigError
from ovamgen.shards.output_files import EXPORT_PARTS

_FILES = f"{EXPORT_PARTS}/.files"
"""Where images and masks wait for the archive; gone with the parts of the shards."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every entry: no clock in the bytes."""
_MODE = 0o100644 << 16
_IGNORED = "ignored"
"""VOC's name of it, which datumaro knows."""


class CvatFormat(ExportFormat):
    """``cvat.zip`` and ``labels.json``."""

    name = "cvat"
    title = "CVAT's segmentation mask format"

    def check(self, export: Export) -> None:
        """Checks that colours tell the labels apart.

        Raises:
            ConfigError: two have the same.
        """
        seen: dict[str, str] = {}
        for _, name, colour in _labels(export):
            other = seen.setdefault(colour, name)
            if other != name:
                raise ConfigError(
                    f"export cvat tells labels by their colours, and {other} and {name} both have "
                    f"{colour}: give one of them another colour in the class file of the run"
                )

    def write_sample(self, sample: ExportSample, export: Export, part: Part) -> None:
        """The image as it is, the mask in colours."""
        export.put(f"{_FILES}/JPEGImages/{sample.key}.jpg", sample.jpeg)
        buffer = io.BytesIO()
        # no palette: some readers would take its indices for positions in the labelmap
        Image.fromarray(export.palette[sample.labels]).save(buffer, "PNG")
        export.put(f"{_FILES}/SegmentationClass/{sample.key}.png", buffer.getvalue())

    def finish(self, export: Export, parts: Parts, counts: dict[str, int]) -> None:
        """The archive, out of the files that waited."""
        waiting = export.root / _FILES

        def write(file: BinaryIO) -> None:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, content in _entries(export, parts, counts, waiting):
                    entry = zipfile.ZipInfo(name, _EPOCH)
                    entry.external_attr = _MODE
                    archive.writestr(entry, content)

        export.write("cvat.zip", write)
        labels = [
            {"name": name, "color": colour, "attributes": []}
            for label, name, colour in _labels(export)
            if label != BACKGROUND
        ]
        export.write("labels.json", (json.dumps(labels, indent=2) + "\n").encode())


def _labels(export: Export) -> Iterator[tuple[int, str, str]]:
    """Id, name and colour (``#rrggbb``) of every label that a mask may hold."""
    named = [(entry.id, entry.name) for entry in export.classes.classes]
    for label, name in [(BACKGROUND, "background"), *named, (IGNORE, _IGNORED)]:
        yield label, name, "#" + bytes(export.palette[label]).hex()


def _entries(
    export: Export, parts: Parts, counts: dict[str, int], waiting: Path
) -> Iterator[tuple[str, bytes]]:
    """Name and content of every entry of the archive, one list or picture at a time."""
    rows = [
        f"{name}:{','.join(str(value) for value in export.palette[label])}::"
        for label, name, _ in _labels(export)
    ]
    yield "labelmap.txt", "\n".join(["# label:color_rgb:parts:actions", *rows, ""]).encode()
    for wanted in counts:
        keys = "".join(f"{key}\n" for split, key in parts.samples() if split == wanted)
        yield f"ImageSets/Segmentation/{wanted}.txt", keys.encode()
    for _, key in parts.samples():
        for name in (f"JPEGImages/{key}.jpg", f"SegmentationClass/{key}.png"):
            yield name, (waiting / name).read_bytes()
