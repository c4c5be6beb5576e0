"""A corpus in the layout of PASCAL VOC 2012: palette masks, lists of names, a class table.

As torchvision's ``VOCSegmentation`` and mmsegmentation's ``PascalVOCDataset`` read it (conventions
3.5); of other classes than VOC's, as its ``BaseSegDataset`` does. Images keep their bytes.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, StrictUndefined
from PIL import Image

from ovamgen.bounds import MAX_SIDE_PX
from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.classes.labels import palette_of
from ovamgen.classes.loading import is_default
from ovamgen.corpus.export.classes import class_file, class_table, count_targets, label_names
from ovamgen.corpus.open import Corpus, open_corpus
from ovamgen.corpus.output import filling, write_mark
from ovamgen.errors import ConfigError, ShardError
from ovamgen.records import ShardRecord
from ovamgen.shards.arrays import decode_jpeg, decode_png
from ovamgen.shards.codec import IMAGE, MASK
from ovamgen.shards.output_files import (
    CLASS_FILE_NAME,
    CLASSES_NAME,
    DEVKIT,
    EXPORT_NAME,
    MMSEG_NAME,
    VOC_PARTS,
)
from ovamgen.storage.store import LocalStore, open_store
from ovamgen.storage.whole_files import flush, make_folders, write_whole

_TEMPLATE = "mmseg_config.py.j2"


@dataclass(frozen=True, slots=True, kw_only=True)
class VocExport:
    """What was written; counts are of samples."""

    out: str
    train: int
    val: int

    def lines(self) -> list[str]:
        """As text for people."""
        return [
            f"VOC layout     {self.out}/{DEVKIT}",
            f"samples        {self.train} train, {self.val} val",
        ]


def export_voc(
    url: str,
    out: str,
    *,
    val_share: float = 0.1,
    partial: bool = False,
    source: str | None = None,
    after_sample: Callable[[], None] = lambda: None,
) -> VocExport:
    """The corpus as ``OUT/VOCdevkit/VOC2012``, with ``classes.csv`` and ``mmseg_config.py``.

    Of other classes than VOC's, ``classes.yaml`` is among them, beside the images, and says which
    they are to whoever reads the folder.

    ``export.json`` is written last; until then ``INCOMPLETE.json`` is there, and the same command
    goes on with the shards that are left. Neither a killed process nor a power cut leaves anything
    that is taken for finished.

    Args:
        url: the folder of a run or of a view.
        out: an empty local folder, or one that the same export began.
        val_share: of the samples that are listed in ``val.txt``, [0, 1]. Which ones is decided by
            each key alone: a sample stays on its side when others come or go.
        partial: a run that is not finished will do.
        source: of a view, the corpus that it is of; by default the one beside it.
        after_sample: called after each sample.

    Raises:
        ConfigError: nothing to export, an output that holds something else.
        ShardError: a shard is damaged, or a mask holds labels that the classes do not have.
    """
    if not 0 <= val_share <= 1:
        raise ConfigError(f"the share of validation samples must be from 0 to 1, got {val_share}")
    corpus = open_corpus(url, partial=partial, source=source)
    store = open_store(out)
    if not isinstance(store, LocalStore):
        raise ConfigError(f"VOC's layout is exported to a local folder, got {out}")
    request = {
        "command": "export voc",
        "source_fingerprint": corpus.fingerprint,
        "samples": corpus.samples,
        "val_share": val_share,
    }
    with filling(store, EXPORT_NAME, request) as done:
        if done is not None:
            return VocExport(out=store.url, train=int(done["train"]), val=int(done["val"]))
        root = Path(store.url)
        parts = root / VOC_PARTS
        for folder in (parts, *_folders(root)):
            make_folders(folder)
        for record in corpus.records:
            part = parts / f"{record.shard_index:06d}.txt"
            if not part.exists():
                _write_text(part, _export_shard(corpus, record, root, after_sample))
        train, val = _write_lists(root, val_share)
        if train + val != corpus.samples:
            raise ShardError(
                f"{store.url} must hold {corpus.samples} samples, got {train + val}: empty the "
                "folder and export again"
            )
        classes = corpus.classes
        store.put(CLASSES_NAME, class_table(classes, count_targets(corpus)))
        if not is_default(classes):
            store.put(f"{DEVKIT}/{CLASS_FILE_NAME}", class_file(classes))
        store.put(MMSEG_NAME, _mmseg_config(corpus).encode())
        result = VocExport(out=store.url, train=train, val=val)
        write_mark(store, EXPORT_NAME, request, {"train": train, "val": val})
        shutil.rmtree(parts)
    return result


def palette_png(labels: UInt8[np.ndarray, "H W"], palette: bytes) -> bytes:
    """A PNG of the labels as indices into a palette of 256 colours, as VOC has its masks."""
    image = Image.fromarray(labels)
    image.putpalette(palette)
    buffer = io.BytesIO()
    # without bits=8 Pillow packs masks of few labels into fewer bits, which not all readers take
    image.save(buffer, "PNG", bits=8)
    return buffer.getvalue()


def is_val(key: str, val_share: float) -> bool:
    """Whether a sample is one for validation, by its key alone."""
    number = int.from_bytes(hashlib.sha256(f"val {key}".encode()).digest()[:8], "big")
    return number < val_share * 2**64


def _folders(root: Path) -> tuple[Path, Path, Path]:
    base = root / DEVKIT
    return base / "JPEGImages", base / "SegmentationClass", base / "ImageSets" / "Segmentation"


def _export_shard(
    corpus: Corpus, record: ShardRecord, root: Path, after_sample: Callable[[], None]
) -> Iterator[str]:
    """Writes the files of a shard's samples; the lines of their names."""
    images, masks, _ = _folders(root)
    classes = corpus.classes
    palette = palette_of(classes).tobytes()
    allowed = np.isin(np.arange(256), [BACKGROUND, *(e.id for e in classes.classes), IGNORE])
    for key, members in corpus.read(record):
        for name in (IMAGE, MASK):
            if name not in members:
                raise ShardError(f"sample {key} in {record.name} has no member {name}")
        labels = decode_png(members[MASK], name=f"the mask of sample {key}")
        unknown = np.unique(labels[~allowed[labels]])
        if len(unknown):
            raise ShardError(
                f"the mask of sample {key} in {record.name} must hold labels "
                f"{classes.told_labels} and {IGNORE}, got {unknown.tolist()}"
            )
        decode_jpeg(members[IMAGE], labels.shape, f"the image of sample {key}")
        image, mask = images / f"{key}.jpg", masks / f"{key}.png"
        for path, content in ((image, members[IMAGE]), (mask, palette_png(labels, palette))):
            path.write_bytes(content)
            flush(path)
        after_sample()
        yield f"{key}\n"
    # the list of the shard says that its pictures are there
    flush(images)
    flush(masks)


def _write_lists(root: Path, val_share: float) -> tuple[int, int]:
    """Samples in ``train.txt`` and ``val.txt``, written shard by shard."""
    folder = _folders(root)[2]
    counts = {"train": 0, "val": 0}

    def lines(wanted: str) -> Iterator[str]:
        for part in sorted((root / VOC_PARTS).glob("*.txt")):
            with part.open() as file:
                for line in file:
                    name = "val" if is_val(line.rstrip("\n"), val_share) else "train"
                    if wanted == "trainval":
                        counts[name] += 1
                    if wanted in (name, "trainval"):
                        yield line

    for name in ("train", "val", "trainval"):
        _write_text(folder / f"{name}.txt", lines(name))
    return counts["train"], counts["val"]


def _write_text(path: Path, lines: Iterable[str]) -> None:
    write_whole(path, lambda file: file.writelines(line.encode() for line in lines))


def _mmseg_config(corpus: Corpus) -> str:
    """A configuration for mmsegmentation 1.x that trains on the export; text, nothing imported."""
    row = corpus.metadata(corpus.records[0], ["height", "width"]).slice(0, 1).to_pylist()[0]
    size = {name: row[name] for name in ("height", "width")}
    for name, value in size.items():
        # it becomes a line of Python, which mmsegmentation executes
        if type(value) is not int or not 0 < value <= MAX_SIDE_PX:
            raise ShardError(
                f"the {name} of a sample in {corpus.store.url} must be pixels, 1 to {MAX_SIDE_PX}, "
                f"got {value!a:.80}"
            )
    classes = corpus.classes
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
