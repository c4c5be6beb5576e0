"""A corpus in the layouts of Ultralytics: masks for semantic segmentation, or polygons.

After https://docs.ultralytics.com/datasets/semantic and .../datasets/segment. The package itself is
never imported: its licence is the AGPL.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Literal

import numpy as np
import yaml
from jaxtyping import UInt8

from ovamgen.classes.class_entry import IGNORE
from ovamgen.corpus.export.classes import label_names
from ovamgen.corpus.export.engine import Export, ExportFormat
from ovamgen.corpus.export.parts import Part, Parts
from ovamgen.corpus.export.polygons import draw_polygons, polygons_of
from ovamgen.corpus.export.samples import ExportSample
from ovamgen.corpus.export.splits import Splits
from ovamgen.errors import ConfigError

Form = Literal["masks", "polygons"]

_LOSS = "loss"
_USES = ("train", "val", "test")
"""The splits that ``data.yaml`` has a name for."""


class UltralyticsFormat(ExportFormat):
    """``images/SPLIT/KEY.jpg``, ``data.yaml``, and ``masks/`` as PNG or ``labels/`` as text."""

    name = "ultralytics"
    title = "Ultralytics' layout"
    splits = Splits.parse("train=0.9,val=0.1")

    def __init__(self, form: Form = "masks") -> None:
        """``masks`` are exact; ``polygons`` are for versions that read nothing else."""
        self._form = form

    def request(self) -> dict[str, Any]:
        """The form."""
        return {"form": self._form}

    def check(self, export: Export) -> None:
        """Checks that splits are called as ``data.yaml`` can have them, and that one is train."""
        splits = export.options.splits
        names = splits.names if splits else _USES
        if "train" not in names or any(name not in _USES for name in names):
            raise ConfigError(
                f"export ultralytics needs a split named train, and knows {', '.join(_USES)}; got "
                f"--split {splits}"
            )

    def write_sample(self, sample: ExportSample, export: Export, part: Part) -> None:
        """The image, and its mask or polygons."""
        place = f"{sample.split}/{sample.key}"
        export.put(f"images/{place}.jpg", sample.jpeg)
        if self._form == "masks":
            export.put(f"masks/{place}.png", sample.png)
            return
        ids = [entry.id for entry in export.classes.classes]
        text, loss = _polygons(sample.labels, ids)
        export.put(f"labels/{place}.txt", text.encode())
        part.add(_LOSS, json.dumps(loss))

    def finish(self, export: Export, parts: Parts, counts: dict[str, int]) -> None:
        """``data.yaml``; without a path, so that the folder may be moved."""
        # both must be there: a corpus too small for a second split is validated on its first
        places = {"train": "train", "val": "val" if counts.get("val") else "train"}
        places |= {name: name for name, count in counts.items() if count}
        data: dict[str, Any] = {name: f"images/{place}" for name, place in places.items()}
        if self._form == "masks":
            data["masks_dir"] = "masks"
            names = label_names(export.classes)
        else:
            names = [entry.name for entry in export.classes.classes]
        data["names"] = dict(enumerate(names))
        export.write("data.yaml", yaml.safe_dump(data, sort_keys=False).encode())

    def describe(self, export: Export, parts: Parts) -> dict[str, Any]:
        """The form, and what the polygons lose."""
        if self._form == "masks":
            return {"form": self._form}
        common: Counter[str] = Counter()
        either: Counter[str] = Counter()
        pixels = ignored = 0
        for line in parts.lines(_LOSS):
            loss = json.loads(line)
            common.update(loss["common"])
            either.update(loss["either"])
            pixels += loss["pixels"]
            ignored += loss["ignored"]
        ious = {label: common[label] / count for label, count in sorted(either.items()) if count}
        worst = min(ious, key=lambda label: ious[label], default="")
        return {
            "form": self._form,
            "mean_iou": sum(ious.values()) / len(ious) if ious else 1.0,
            "least_iou": ious.get(worst, 1.0),
            "worst": export.classes.by_id(int(worst)).name if worst else "",
            "ignored": ignored / pixels,
        }


def _polygons(labels: UInt8[np.ndarray, "H W"], ids: list[int]) -> tuple[str, dict[str, Any]]:
    """The lines of a label file, and how what they cover compares to the mask, by class id."""
    height, width = labels.shape
    lines = []
    common: dict[str, int] = {}
    either: dict[str, int] = {}
    for number, label in enumerate(ids):
        region = labels == label
        if not region.any():
            continue
        polygons = list(polygons_of(region))
        for polygon in polygons:
            # of the pixels' centres, since readers cut the fraction off
            places = (polygon + 0.5) / (width, height)
            lines.append(" ".join([str(number), *(f"{value:.6f}" for value in places.ravel())]))
        covered = draw_polygons(polygons, height, width)
        common[str(label)] = int((covered & region).sum())
        either[str(label)] = int((covered | region).sum())
    loss = {
        "common": common,
        "either": either,
        "pixels": labels.size,
        "ignored": int((labels == IGNORE).sum()),
    }
    return "".join(f"{line}\n" for line in lines), loss
