"""A corpus in COCO's layout: for each split a JSON of images and annotations.

The formats are those of https://cocodataset.org/#format-data. Regions are run-length encoded by
pycocotools, so that they hold exactly the pixels of the masks.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal

import numpy as np
from jaxtyping import Bool
from PIL import Image

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.corpus.export.engine import Export, ExportFormat
from ovamgen.corpus.export.parts import Part, Parts
from ovamgen.corpus.export.regions import Regions, need, regions_of
from ovamgen.corpus.export.samples import ExportSample
from ovamgen.errors import ConfigError

Form = Literal["instances", "panoptic", "stuff"]

_ANNOTATIONS = "annotations"
_BACKGROUND_CATEGORY = 256
"""No label of a mask; readers take 0, the background's own, for no category at all."""


class CocoFormat(ExportFormat):
    """``images/KEY.jpg`` and ``annotations/FORM_SPLIT.json``; panoptic PNGs beside the JSON."""

    name = "coco"
    title = "COCO's layout"

    def __init__(
        self, form: Form = "instances", regions: Regions = "components", min_area: int = 1
    ) -> None:
        """What annotations are.

        Args:
            form: ``instances``: regions of the classes, and the ignored pixels as crowds.
                ``stuff``: whole classes, the background among them; ignored pixels are in none.
                ``panoptic``: a PNG of segments, the background among them, ignored pixels void.
            regions: connected parts of a class, or all its pixels; whole classes in ``stuff``.
            min_area: regions of fewer pixels are left out.

        Raises:
            ConfigError: no area, or pycocotools is missing.
        """
        if min_area < 1:
            raise ConfigError(f"--min-area must be at least 1 pixel, got {min_area}")
        self._form = form
        self._regions: Regions = "class" if form == "stuff" else regions
        self._min_area = min_area
        self._rle = need("pycocotools.mask")
        if self._regions == "components":
            need("scipy.ndimage")

    def request(self) -> dict[str, Any]:
        """Form, regions and the least area."""
        return {"form": self._form, "regions": self._regions, "min_area": self._min_area}

    def write_sample(self, sample: ExportSample, export: Export, part: Part) -> None:
        """The image, its entry and its annotations."""
        export.put(f"images/{sample.key}.jpg", sample.jpeg)
        height, width = sample.labels.shape
        image = {
            "id": int(sample.key),
            "file_name": f"{sample.key}.jpg",
            "height": height,
            "width": width,
            "license": 1,
        }
        part.add(f"images-{sample.split}", _json(image))
        if self._form == "panoptic":
            annotations = [self._panoptic(sample, export)]
        else:
            annotations = list(self._annotations(sample, export))
        for annotation in annotations:
            part.add(f"annotations-{sample.split}", _json(annotation))

    def finish(self, export: Export, parts: Parts, counts: dict[str, int]) -> None:
        """The JSON of each split."""
        for split in counts:
            export.write(
                f"{_ANNOTATIONS}/{self._form}_{split}.json", self._document(export, parts, split)
            )

    def _annotations(self, sample: ExportSample, export: Export) -> Iterator[dict[str, Any]]:
        labels = sample.labels
        shown = [int(label) for label in np.unique(labels) if label not in (BACKGROUND, IGNORE)]
        for label in [BACKGROUND, *shown] if self._form == "stuff" else shown:
            for region in regions_of(labels, label, self._regions, self._min_area):
                yield self._annotation(sample.key, label, region)
        ignored = labels == IGNORE
        if self._form == "instances" and ignored.any():
            # what may be of the class is no error of whoever finds it there, nor if nobody does
            every = tuple(entry.id for entry in export.classes.classes)
            for label in shown or sample.class_ids or every:
                yield self._annotation(sample.key, label, ignored, crowd=1)

    def _annotation(
        self, key: str, label: int, region: Bool[np.ndarray, "H W"], crowd: int = 0
    ) -> dict[str, Any]:
        rle = self._rle.encode(np.asfortranarray(region.astype(np.uint8)))
        return {
            "image_id": int(key),
            "category_id": _category(label),
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            "area": int(self._rle.area(rle)),
            "bbox": self._rle.toBbox(rle).tolist(),
            "iscrowd": crowd,
        }

    def _panoptic(self, sample: ExportSample, export: Export) -> dict[str, Any]:
        labels = sample.labels
        segments: list[dict[str, Any]] = []
        ids = np.zeros(labels.shape, np.uint32)
        for label in np.unique(labels[labels != IGNORE]).tolist():
            by: Regions = "class" if label == BACKGROUND else self._regions
            for region in regions_of(labels, label, by, self._min_area):
                rows, columns = np.nonzero(region)
                top, left = rows.min(), columns.min()
                height, width = rows.max() + 1 - top, columns.max() + 1 - left
                number = len(segments) + 1
                ids[region] = number
                segments.append(
                    {
                        "id": number,
                        "category_id": _category(label),
                        "area": len(rows),
                        "bbox": [int(side) for side in (left, top, width, height)],
                        "iscrowd": 0,
                    }
                )
        export.put(f"{_ANNOTATIONS}/panoptic_{sample.split}/{sample.key}.png", _id_png(ids))
        return {
            "image_id": int(sample.key),
            "file_name": f"{sample.key}.png",
            "segments_info": segments,
        }

    def _document(self, export: Export, parts: Parts, split: str) -> Callable[[BinaryIO], None]:
        """What writes the JSON of a split, an entry a line, none of them held."""
        head = {
            "info": {"description": "made by ovamgen", "version": export.corpus.fingerprint},
            "licenses": [{"id": 1, "name": "see README.md", "url": ""}],
            "categories": self._categories(export),
        }

        def write(file: BinaryIO) -> None:
            file.write(_json(head)[:-1].encode())
            for stream in ("images", "annotations"):
                file.write(f',"{stream}":['.encode())
                for number, line in enumerate(parts.lines(f"{stream}-{split}"), 1):
                    file.write(b",\n" if number > 1 else b"\n")
                    if stream == "annotations" and self._form != "panoptic":
                        # ids are of the whole file; 0 stands for none in pycocotools' scores
                        line = f'{{"id":{number},{line[1:]}'
                    file.write(line.encode())
                file.write(b"\n]")
            file.write(b"}\n")

        return write

    def _categories(self, export: Export) -> list[dict[str, Any]]:
        thing = int(self._regions == "components")
        found: list[dict[str, Any]] = [
            {"id": entry.id, "name": entry.name, "supercategory": export.classes.name}
            for entry in export.classes.classes
        ]
        if self._form == "instances":
            return found
        background = {"name": "background", "supercategory": "background"}
        found.append({"id": _BACKGROUND_CATEGORY, **background})
        if self._form == "panoptic":
            for row in found:
                is_background = row["id"] == _BACKGROUND_CATEGORY
                row["isthing"] = 0 if is_background else thing
                row["color"] = export.palette[BACKGROUND if is_background else row["id"]].tolist()
        return found


def _category(label: int) -> int:
    return label if label != BACKGROUND else _BACKGROUND_CATEGORY


def _id_png(ids: Any) -> bytes:
    """A PNG of segment ids as COCO's panoptic API reads them."""
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)
