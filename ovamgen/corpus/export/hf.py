"""A corpus as a Hugging Face dataset: WebDataset tars with a card, Croissant and wids metadata.

The result is still a corpus: ovamgen reads it as it reads the folder of a run. ``datasets`` itself
is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import yaml

from ovamgen import __version__
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import is_default
from ovamgen.console.wording import counted
from ovamgen.corpus.copying import copy_shards
from ovamgen.corpus.export.classes import class_table, count_targets, label_names
from ovamgen.corpus.export.croissant import croissant
from ovamgen.corpus.open import Corpus, open_corpus
from ovamgen.corpus.output import filling, write_mark
from ovamgen.errors import ConfigError, ShardError
from ovamgen.records import ShardRecord
from ovamgen.shards.card import (
    is_labelled,
    loras_of,
    render_card,
    value_at,
    weights_terms,
    without_folder,
)
from ovamgen.shards.codec import CAPTION, HEATMAPS, IMAGE, MASK, METADATA
from ovamgen.shards.manifest import count_classes, write_indexes
from ovamgen.shards.output_files import CARD_NAME, CLASSES_NAME, CROISSANT_NAME, EXPORT_NAME
from ovamgen.shards.schema import SAMPLE_SCHEMA
from ovamgen.storage.store import open_store

_COCO_TERMS = "https://creativecommons.org/licenses/by/4.0/"
_TERMS = {
    "own": ["https://opensource.org/license/mit"],
    "openrail": ["https://huggingface.co/spaces/CompVis/stable-diffusion-license"],
    "other": [],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HfExport:
    """What was written."""

    out: str
    samples: int
    shards: int

    def lines(self) -> list[str]:
        """As text for people."""
        return [
            f"dataset        {self.out}",
            f"samples        {self.samples} in {counted(self.shards, 'shard')}",
        ]

    def to_json(self) -> dict[str, Any]:
        """The folder and its counts, for programs."""
        return asdict(self)


def export_hf(
    url: str,
    out: str,
    *,
    link: bool = True,
    creator: str = "",
    published: str = "",
    partial: bool = False,
    source: str | None = None,
    opened: Callable[[Corpus], None] = lambda corpus: None,
    after_shard: Callable[[int], None] = lambda samples: None,
) -> HfExport:
    """The corpus as a folder that ``datasets.load_dataset(OUT)`` reads, ready to be uploaded.

    Tars keep their bytes where all their samples count; of a view, the others are written again
    with the samples that it keeps. Shards without samples are left out. ``export.json`` is written
    last; until then ``INCOMPLETE.json`` is there, and the same command goes on.

    Args:
        url: the folder of a run or of a view.
        out: an empty folder, or one that the same export began.
        link: give whole tars a second name where the file system can, instead of copying them.
        creator: who publishes the data set, for the Croissant metadata.
        published: the day that it is published, as YYYY-MM-DD, for the same.
        partial: a run that is not finished will do.
        source: of a view, the corpus that it is of; by default the one beside it.
        opened: called with the corpus, before anything is written.
        after_shard: called with the number of samples of each shard that is there.

    Raises:
        ConfigError: nothing to export, an output that holds something else.
        ShardError: a shard is damaged.
    """
    if published and not re.fullmatch(r"\d{4}-\d\d-\d\d", published):
        raise ConfigError(f"the day of publication must be like 2026-01-31, got '{published}'")
    corpus = open_corpus(url, partial=partial, source=source)
    opened(corpus)
    store = open_store(out)
    mark = corpus.fingerprint
    request = {
        "command": "export hf",
        "source_fingerprint": mark,
        "samples": corpus.samples,
        "shards": len(corpus.records),
        "creator": creator,
        "published": published,
    }
    with filling(store, EXPORT_NAME, request) as done:
        if done is None:
            records = copy_shards(
                corpus,
                store,
                mark,
                link=link,
                after_shard=lambda record: after_shard(record.samples),
            )
            info = {**corpus.run_info, "fingerprint": mark, **_derivation(corpus)}
            write_indexes(store, records, info)
            classes = corpus.classes
            # all samples of a corpus have the same members
            _, members = next(corpus.read(corpus.records[0]))
            header = dataset_info(records, [*members], classes)
            card = render_card(records, count_classes(store, records), info, dataset_info=header)
            store.put(CARD_NAME, card.encode())
            store.put(CLASSES_NAME, class_table(classes, count_targets(corpus)))
            store.put(CROISSANT_NAME, _croissant(records, classes, info, creator, published))
            write_mark(store, EXPORT_NAME, request, {})
    return HfExport(out=store.url, samples=corpus.samples, shards=len(corpus.records))


def dataset_info(records: Sequence[ShardRecord], members: Sequence[str], classes: ClassSet) -> str:
    """``dataset_info`` of a card's YAML header: features with class names, counts of the splits."""
    splits: dict[str, list[ShardRecord]] = {}
    for record in records:
        splits.setdefault(record.split, []).append(record)
    size = sum(record.size_bytes for record in records)
    info = {
        "features": features(members, classes),
        "splits": [
            {
                "name": name,
                "num_bytes": sum(record.size_bytes for record in splits[name]),
                "num_examples": sum(record.samples for record in splits[name]),
            }
            for name in sorted(splits)
        ],
        "download_size": size,
        "dataset_size": size,
    }
    return yaml.safe_dump({"dataset_info": info}, sort_keys=False, allow_unicode=True)


def features(members: Sequence[str], classes: ClassSet) -> list[dict[str, Any]]:
    """The columns of the WebDataset loader, in the card's notation, for a sample's members."""
    kinds: dict[str, dict[str, Any]] = {
        IMAGE: {"dtype": "image"},
        METADATA: {
            "struct": [
                _feature(SAMPLE_SCHEMA.field(name), classes) for name in sorted(SAMPLE_SCHEMA.names)
            ]
        },
        MASK: {"dtype": "image"},
        CAPTION: {"dtype": "string"},
        HEATMAPS: {
            "struct": [
                {"name": "maps", "list": {"list": {"list": "uint8"}}},
                {"name": "class_ids", "list": "uint8"},
            ]
        },
    }
    unknown = [name for name in members if name not in kinds]
    if unknown:
        raise ShardError(f"samples have members that no ovamgen writes: {', '.join(unknown)}")
    columns = [{"name": name, **kinds[name]} for name in members]
    return [*columns, *({"name": name, "dtype": "string"} for name in ("__key__", "__url__"))]


def _feature(field: pa.Field, classes: ClassSet) -> dict[str, Any]:
    if field.name == "class_ids":
        names = {str(label): name for label, name in enumerate(label_names(classes))}
        return {"name": field.name, "list": {"class_label": {"names": names}}}
    if pa.types.is_list(field.type):
        return {"name": field.name, "list": _dtype(field.type.value_type)}
    return {"name": field.name, "dtype": _dtype(field.type)}


def _dtype(kind: pa.DataType) -> str:
    return {"double": "float64"}.get(str(kind), str(kind))


def _croissant(
    records: Sequence[ShardRecord],
    classes: ClassSet,
    info: Mapping[str, Any],
    creator: str,
    published: str,
) -> bytes:
    model = str(value_at(info, "model", "id") or "")
    captions = str(value_at(info, "config", "plan", "captions") or "")
    mark = str(info["fingerprint"])
    samples = sum(record.samples for record in records)
    labelled = is_labelled(info)
    drawn = "" if labelled else " that a diffusion model drew from captions"
    made = "Masks are" if labelled else "Images and masks are"
    told = "the PASCAL VOC classes" if is_default(classes) else f"the classes of {classes.name}"
    return croissant(
        records,
        name=f"ovamgen-{mark[:12]}",
        description=f"{samples} images{drawn}, each with a "
        f"semantic mask of {told} it shows. {made} machine-made. The "
        "terms of code, weights, captions and outputs are stated one by one in README.md.",
        version="1.0.0",
        licences=_licences(info, captions),
        made={
            "model": " + ".join(filter(None, [without_folder(model), loras_of(info)])),
            "captions": PurePosixPath(captions).name,
            "method": str(value_at(info, "config", "attribution", "method") or ""),
            "ovamgen_version": str(info.get("ovamgen_version", __version__)),
        },
        classes=classes,
        creator=creator,
        published=published,
        labelled=labelled,
    )


def _derivation(corpus: Corpus) -> dict[str, Any]:
    """What the card says of a view: which samples these are of which run."""
    if corpus.view is None:
        return {}
    source = corpus.run_fingerprint
    settings = corpus.view.info["settings"]
    return {"derived": {"command": "select", "from_fingerprint": source, **settings}}


def _licences(info: Mapping[str, Any], captions: str) -> list[str]:
    """URLs of the terms that are known; all are in the card, one by one."""
    found = _TERMS[weights_terms(info)]
    coco = captions == "demo" or PurePosixPath(captions).name.startswith("captions_")
    return [*found, *([_COCO_TERMS] if coco else [])] or ["./README.md#licences"]
