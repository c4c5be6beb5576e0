"""A corpus as the archive that CVAT imports as ``Segmentation mask 1.1``.

VOC's layout with masks in colours and a ``labelmap.txt`` that names them
(https://docs.cvat.ai/docs/dataset_management/formats/format-smask/).
"""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from PIL import Image

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.corpus.export.engine import Export, ExportFormat
from ovamgen.corpus.export.parts import Part, Parts
from ovamgen.corpus.export.samples import ExportSample
from ovamgen.errors import ConfigError
from ovamgen.shards.output_files import EXPORT_PARTS

SAMPLES_AN_ARCHIVE = 10_000
"""More make imports that time out, and a list of entries that is held in memory."""
_FILES = f"{EXPORT_PARTS}/.files"
"""Where images and masks wait for the archive; gone with the parts of the shards."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every entry: no clock in the bytes."""
_MODE = 0o100644 << 16
_IGNORED = "ignored"
"""VOC's name of it, which datumaro knows."""


class CvatFormat(ExportFormat):
    """``cvat-NNNNNN.zip`` and ``labels.json``."""

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
        """The archives, out of the files that waited, and the labels."""
        samples = parts.samples()
        for number in range(-(-sum(counts.values()) // SAMPLES_AN_ARCHIVE)):
            some = list(itertools.islice(samples, SAMPLES_AN_ARCHIVE))
            export.write(f"cvat-{number:06d}.zip", partial(_write_archive, export, some))
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


def _write_archive(export: Export, samples: list[tuple[str, str]], file: BinaryIO) -> None:
    """Writes an archive of the samples, given as split and key."""
    waiting = export.root / _FILES
    rows = [
        f"{name}:{','.join(str(value) for value in export.palette[label])}::"
        for label, name, _ in _labels(export)
    ]
    lists: dict[str, str] = {}
    for split, key in samples:
        lists[split] = lists.get(split, "") + f"{key}\n"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, content: bytes) -> None:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = _MODE
            archive.writestr(entry, content)

        add("labelmap.txt", "\n".join(["# label:color_rgb:parts:actions", *rows, ""]).encode())
        for split, keys in sorted(lists.items()):
            add(f"ImageSets/Segmentation/{split}.txt", keys.encode())
        for _, key in samples:
            for name in (f"JPEGImages/{key}.jpg", f"SegmentationClass/{key}.png"):
                add(name, (waiting / name).read_bytes())
