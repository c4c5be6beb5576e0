"""A corpus as tasks of Label Studio, with the masks as predictions to be corrected.

After https://labelstud.io/guide/predictions: one brush stroke for each class and image.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO
from xml.sax.saxutils import quoteattr

import numpy as np

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.corpus.export.brush_rle import brush_rle
from ovamgen.corpus.export.engine import Export, ExportFormat
from ovamgen.corpus.export.parts import Part, Parts
from ovamgen.corpus.export.samples import ExportSample

LOCAL_FILES = "/data/local-files/?d=images/"
"""Where Label Studio serves the files of ``LOCAL_FILES_DOCUMENT_ROOT``."""

TASKS_A_FILE = 1000
"""More would be refused where masks are large: Label Studio takes files of 250 MB."""
_IGNORED = (IGNORE, "ignore")


class LabelStudioFormat(ExportFormat):
    """``images/KEY.jpg``, ``tasks/SPLIT-NNNNNN.json`` and ``label_config.xml``."""

    name = "labelstudio"
    title = "Label Studio's tasks"

    def __init__(self, image_url: str = LOCAL_FILES) -> None:
        """``image_url`` stands before the names of images in the tasks."""
        self._image_url = image_url

    def request(self) -> dict[str, Any]:
        """Where the images are."""
        return {"image_url": self._image_url}

    def write_sample(self, sample: ExportSample, export: Export, part: Part) -> None:
        """The image, and its task."""
        export.put(f"images/{sample.key}.jpg", sample.jpeg)
        names = {entry.id: entry.name for entry in export.classes.classes} | dict([_IGNORED])
        height, width = sample.labels.shape
        shown = [int(label) for label in np.unique(sample.labels) if label != BACKGROUND]
        prediction: dict[str, Any] = {
            "model_version": "ovamgen",
            "result": [
                {
                    "id": f"{sample.key}-{label}",
                    "from_name": "mask",
                    "to_name": "image",
                    "type": "brushlabels",
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "value": {
                        "format": "rle",
                        "rle": brush_rle(sample.labels == label),
                        "brushlabels": [names[label]],
                    },
                }
                for label in shown
            ],
        }
        if sample.scores:
            # by which tasks can be ordered: the least sure ones first
            prediction["score"] = min(sample.scores)
        task = {
            "data": {
                "image": f"{self._image_url}{sample.key}.jpg",
                "key": sample.key,
                "caption": sample.caption,
            },
            "predictions": [prediction],
        }
        part.add(f"tasks-{sample.split}", json.dumps(task, separators=(",", ":")))

    def finish(self, export: Export, parts: Parts, counts: dict[str, int]) -> None:
        """Files of tasks, each small enough to be imported, and the labelling interface."""
        for split, count in counts.items():
            lines = parts.lines(f"tasks-{split}")
            for number in range(-(-count // TASKS_A_FILE)):
                tasks = itertools.islice(lines, TASKS_A_FILE)
                export.write(f"tasks/{split}-{number:06d}.json", partial(_write_list, tasks))
        export.write("label_config.xml", _interface(export).encode())


def _write_list(lines: Iterator[str], file: BinaryIO) -> None:
    for number, line in enumerate(lines):
        file.write(b",\n" if number else b"[\n")
        file.write(line.encode())
    file.write(b"\n]\n")


def _interface(export: Export) -> str:
    named = [(entry.id, entry.name) for entry in export.classes.classes]
    colours = [(name, bytes(export.palette[label]).hex()) for label, name in [*named, _IGNORED]]
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{colour}"/>\n' for name, colour in colours
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="mask" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
    )
