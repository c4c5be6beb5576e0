"""A corpus in the layout of PASCAL VOC 2012: palette masks, lists of names, a class table.

As torchvision's ``VOCSegmentation`` and mmsegmentation's ``PascalVOCDataset`` read it (conventions
3.5); of other classes than VOC's, as its ``BaseSegDataset`` does. Images keep their bytes.
"""

from __future__ import annotations

import io
from functools import partial
from importlib import resources
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, StrictUndefined
from PIL import Image

from ovamgen.bounds import MAX_SIDE_PX
from ovamgen.classes.labels import palette_of
from ovamgen.classes.loading import is_default
from ovamgen.corpus.export.classes import class_file, class_table, count_targets, label_names
from ovamgen.corpus.export.engine import Export, ExportFormat
from ovamgen.corpus.export.parts import Part, Parts
from ovamgen.corpus.export.samples import ExportSample
from ovamgen.corpus.export.splits import Splits
from ovamgen.errors import ConfigError, ShardError
from ovamgen.shards.output_files import CLASS_FILE_NAME, CLASSES_NAME, DEVKIT, MMSEG_NAME

_LISTS = f"{DEVKIT}/ImageSets/Segmentation"
_TEMPLATE = "mmseg_config.py.j2"


class VocFormat(ExportFormat):
    """``VOCdevkit/VOC2012``, ``classes.csv`` and ``mmseg_config.py``.

    Of other classes than VOC's, ``classes.yaml`` is among them, beside the images, and says which
    they are to whoever reads the folder.
    """

    name = "voc"
    title = "PASCAL VOC's layout"

    def __init__(self, val_share: float | None = 0.1) -> None:
        """``val_share`` of the samples, [0, 1], is listed in ``val.txt``; None has no rule for it.

        Raises:
            ConfigError: it is no share.
        """
        self._request = {} if val_share is None else {"val_share": val_share}
        self.splits = None if val_share is None else Splits.with_val(val_share)

    def request(self) -> dict[str, Any]:
        """The share of ``val.txt``."""
        return self._request

    def check(self, export: Export) -> None:
        """Checks that there is something to train on: mmsegmentation's configuration needs it."""
        splits = export.options.splits
        if splits is not None and "train" not in splits.names:
            raise ConfigError(
                f"export voc needs a split named train, got --split {splits}: name one so"
            )

    def write_sample(self, sample: ExportSample, export: Export, part: Part) -> None:
        """The image as it is, the mask with the palette."""
        export.put(f"{DEVKIT}/JPEGImages/{sample.key}.jpg", sample.jpeg)
        mask = palette_png(sample.labels, export.palette.tobytes())
        export.put(f"{DEVKIT}/SegmentationClass/{sample.key}.png", mask)

    def finish(self, export: Export, parts: Parts, counts: dict[str, int]) -> None:
        """Lists of names, the class table, and the configuration."""
        lists = {name: {name} for name in counts} | {"trainval": {"train", "val"}}
        for name, splits in lists.items():
            export.write(f"{_LISTS}/{name}.txt", partial(_write_list, parts, splits))
        classes = export.classes
        export.write(CLASSES_NAME, class_table(classes, count_targets(export.corpus)))
        if not is_default(classes):
            export.write(f"{DEVKIT}/{CLASS_FILE_NAME}", class_file(classes))
        export.write(MMSEG_NAME, _mmseg_config(export).encode())


def palette_png(labels: UInt8[np.ndarray, "H W"], palette: bytes) -> bytes:
    """A PNG of the labels as indices into a palette of 256 colours, as VOC has its masks."""
    image = Image.fromarray(labels)
    image.putpalette(palette)
    buffer = io.BytesIO()
    # without bits=8 Pillow packs masks of few labels into fewer bits, which not all readers take
    image.save(buffer, "PNG", bits=8)
    return buffer.getvalue()


def _write_list(parts: Parts, wanted: set[str], file: BinaryIO) -> None:
    for split, key in parts.samples():
        if split in wanted:
            file.write(f"{key}\n".encode())


def _mmseg_config(export: Export) -> str:
    """A configuration for mmsegmentation 1.x that trains on the export; text, nothing imported."""
    corpus = export.corpus
    row = corpus.metadata(corpus.records[0], ["height", "width"]).slice(0, 1).to_pylist()[0]
    size = {name: row[name] for name in ("height", "width")}
    for name, value in size.items():
        # it becomes a line of Python, which mmsegmentation executes
        if type(value) is not int or not 0 < value <= MAX_SIDE_PX:
            raise ShardError(
                f"the {name} of a sample in {corpus.store.url} must be pixels, 1 to {MAX_SIDE_PX}, "
                f"got {value!a:.80}"
            )
    if export.options.size:
        size = dict(zip(size, export.options.size.of(**size), strict=True))
    classes = export.classes
    environment = Environment(
        undefined=StrictUndefined,
        line_statement_prefix="#%",
        variable_start_string="@{",
        variable_end_string="}@",
        keep_trailing_newline=True,
    )
    text = (resources.files("ovamgen") / "data" / _TEMPLATE).read_text("utf-8")
    return environment.from_string(text).render(
        **size,
        voc=is_default(classes),
        # letters, digits, - and _: as safe in a string of Python
        names=label_names(classes),
        palette=palette_of(classes)[: classes.labels].tolist(),
        labels=classes.told_labels,
    )
