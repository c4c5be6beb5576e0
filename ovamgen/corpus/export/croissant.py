"""Croissant 1.1 metadata of an export: files with digests, record sets, where the data is from.

Written after the specification (MLCommons, https://docs.mlcommons.org/croissant); the tests hold it
against ``mlcroissant``, validator and loader.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import is_default
from ovamgen.records import ShardRecord
from ovamgen.shards.codec import IMAGE, MASK
from ovamgen.shards.output_files import METADATA, metadata_name
from ovamgen.shards.schema import SAMPLE_SCHEMA

_CONFORMS = "http://mlcommons.org/croissant/1.1"
_RAI = "http://mlcommons.org/croissant/RAI/1.0"

_PAPER = (
    "@inproceedings{marcosmanchon2024ovam, title={Open-Vocabulary Attention Maps with Token "
    "Optimization for Semantic Segmentation in Diffusion Models}, author={Marcos-Manch\\'on, Pablo "
    "and Alcover-Couso, Roberto and SanMiguel, Juan C. and Mart\\'inez, Jose M.}, "
    "booktitle={CVPR}, year={2024}}"
)
"""The method's paper: what the masks are made by."""

_CONTEXT_NAME = "croissant_context.json"

_COLUMNS = ("caption", "prompt", "class_ids", "class_names", "scores", "areas", "seed", "unsafe")
"""Columns of the metadata tables that the records of ``metadata`` have."""

_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "double": "sc:Float", "bool": "sc:Boolean"}


def croissant(
    records: Sequence[ShardRecord],
    *,
    name: str,
    description: str,
    version: str,
    licences: Sequence[str],
    made: dict[str, str],
    classes: ClassSet,
    creator: str = "",
    published: str = "",
    labelled: bool = False,
) -> bytes:
    """The JSON-LD document; equal arguments give equal bytes.

    Args:
        records: of the shards, by ascending index, each with at least one sample.
        name: of the data set; letters, digits and dashes.
        description: one paragraph.
        version: of the data set.
        licences: URLs.
        made: ``model``, ``captions``, ``method`` and ``ovamgen_version``, "" where not known.
        classes: of the masks.
        creator: who publishes it, "" where not stated.
        published: the day, as YYYY-MM-DD; "" where not stated: no clock is looked at.
        labelled: the images were there before, and masks alone were made.
    """
    of_the_set = ["PASCAL VOC"] if is_default(classes) else []
    drawn = [] if labelled else ["synthetic"]
    stated: dict[str, Any] = {}
    if creator:
        stated["creator"] = {"@type": "sc:Organization", "name": creator}
    if published:
        stated["datePublished"] = published
    document = {
        "@context": json.loads(
            (resources.files("ovamgen") / "data" / _CONTEXT_NAME).read_text("utf-8")
        ),
        "@type": "sc:Dataset",
        "conformsTo": [_CONFORMS, _RAI],
        "name": name,
        "description": description,
        "version": version,
        "license": list(licences),
        "url": "./",
        "keywords": [*drawn, "semantic segmentation", *of_the_set, "diffusion model"],
        "isLiveDataset": False,
        "citeAs": _PAPER,
        "distribution": _distribution(records),
        "recordSet": [_splits(records), _classes(classes), _images(), _masks(), _metadata()],
        **stated,
        **_provenance(made, labelled=labelled),
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _distribution(records: Sequence[ShardRecord]) -> list[dict[str, Any]]:
    files = [_file(r.name, "application/x-tar", r.size_bytes, r.sha256) for r in records]
    files += [
        _file(
            metadata_name(r.shard_index),
            "application/x-parquet",
            r.metadata_size_bytes,
            r.metadata_sha256,
        )
        for r in records
    ]
    tars = [record.name for record in records]
    return [
        *files,
        _file_set("image-files", f"*.{IMAGE}", "image/jpeg", tars),
        _file_set("mask-files", f"*.{MASK}", "image/png", tars),
        _file_set("tables", f"{METADATA}*.parquet", "application/x-parquet", ()),
    ]


def _file(path: str, kind: str, size: int, digest: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{size} B",
        "encodingFormat": kind,
        "sha256": digest,
    }


def _file_set(name: str, includes: str, kind: str, within: Sequence[str]) -> dict[str, Any]:
    place = {"containedIn": [{"@id": path} for path in within]} if within else {}
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        **place,
        "encodingFormat": kind,
        "includes": includes,
    }


def _field(record_set: str, name: str, kind: str | list[str], **values: Any) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "dataType": kind,
        **values,
    }


def _record_set(
    name: str,
    description: str,
    fields: Sequence[dict[str, Any]],
    *,
    key: str = "key",
    kind: str = "",
    data: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        **({"dataType": kind} if kind else {}),
        "key": {"@id": f"{name}/{key}"},
        "field": list(fields),
        **({"data": list(data)} if data else {}),
    }


def _splits(records: Sequence[ShardRecord]) -> dict[str, Any]:
    uses = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}
    return _record_set(
        "splits",
        "The splits; a tar's name begins with that of its split.",
        [_field("splits", "name", "sc:Text"), _field("splits", "url", "sc:URL")],
        key="name",
        kind="cr:Split",
        data=[
            {"splits/name": name, "splits/url": uses.get(name, "cr:TrainingSplit")}
            for name in sorted({record.split for record in records})
        ],
    )


def _classes(classes: ClassSet) -> dict[str, Any]:
    named = [(entry.id, entry.name) for entry in classes.classes]
    labels = [(BACKGROUND, "background"), *named, (IGNORE, "ignore")]
    return _record_set(
        "classes",
        "What the values of a mask's pixels mean.",
        [
            _field("classes", "id", "sc:Integer"),
            _field("classes", "name", ["sc:Text", "cr:Label"]),
        ],
        key="id",
        kind="sc:Enumeration",
        data=[{"classes/id": label, "classes/name": name} for label, name in labels],
    )


def _images() -> dict[str, Any]:
    image = _field("images", "image", "sc:ImageObject", source=_content("image-files"))
    return _record_set(
        "images",
        "The images, RGB, by WebDataset key.",
        [_file_key("images", "image-files", IMAGE), image],
    )


def _masks() -> dict[str, Any]:
    mask = _field(
        "masks",
        "mask",
        ["sc:ImageObject", "cr:SegmentationMask"],
        description="8-bit class ids: 0 background, 255 ignore.",
        source=_content("mask-files"),
    )
    return _record_set(
        "masks", "The masks, one for each image.", [_file_key("masks", "mask-files", MASK), mask]
    )


def _metadata() -> dict[str, Any]:
    status = _field(
        "metadata",
        "status",
        "sc:Text",
        description="ok, or failed: such a caption has no image.",
        source={"fileSet": {"@id": "tables"}, "extract": {"column": "status"}},
    )
    return _record_set(
        "metadata",
        "What is known of each image; captions that gave none are there as well.",
        [_column("key"), status, *map(_column, _COLUMNS)],
    )


def _column(name: str) -> dict[str, Any]:
    field = SAMPLE_SCHEMA.field(name)
    text = field.metadata[b"description"].decode()
    source = {"fileSet": {"@id": "tables"}, "extract": {"column": name}}
    kind, values = str(field.type), {}
    if kind.startswith("list"):
        kind = str(field.type.value_type)
        values = {"isArray": True, "arrayShape": "-1"}
    return _field("metadata", name, _TYPES[kind], description=text, source=source, **values)


def _file_key(record_set: str, file_set: str, extension: str) -> dict[str, Any]:
    """The WebDataset key of a file: what stands before its extension."""
    source = {
        "fileSet": {"@id": file_set},
        "extract": {"fileProperty": "filename"},
        "transform": {"regex": "^([^.]+)\\." + extension.replace(".", "\\.") + "$"},
    }
    # No references between the keys of record sets: mlcroissant 1.1.1 joins files of several tars
    # by their place, and fails; equal keys say the same.
    return _field(record_set, "key", "sc:Text", description="The WebDataset key.", source=source)


def _content(file_set: str) -> dict[str, Any]:
    return {"fileSet": {"@id": file_set}, "extract": {"fileProperty": "content"}}


_LABELLED: dict[str, Any] = {
    "rai:dataCollection": "Images were there before; their source is not known here.",
    "rai:dataCollectionType": ["Others"],
    "rai:dataBiases": "Those of the images, and of the diffusion model's training data.",
    "rai:personalSensitiveInformation": "Images may show people, and files may hold EXIF.",
}


def _provenance(made: dict[str, str], *, labelled: bool) -> dict[str, Any]:
    tool = f"ovamgen {made['ovamgen_version']}".strip()
    sources = [
        {"@type": "prov:Entity", "prov:label": f"{what}: {made[name]}"}
        for name, what in (("captions", "captions"), ("model", "diffusion model"))
        if made[name]
    ]
    activity = "images drawn from captions by a diffusion model, masks read from its attention"
    if labelled:
        activity = "masks read from the attention of a diffusion model"
    return {
        "prov:wasDerivedFrom": sources,
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"{activity}, thresholded and refined by a dense CRF",
            "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "prov:label": tool},
        },
        "rai:dataCollection": "Images were drawn by a diffusion model from captions.",
        "rai:dataCollectionType": ["Synthetic data"],
        "rai:dataAnnotationProtocol": "Masks are made by a program; nobody checked them.",
        "rai:machineAnnotationTools": [
            f"{tool}: {made['method'] or 'attention maps'} (OVAM, CVPR 2024), threshold, dense CRF"
        ],
        "rai:dataLimitations": "Pseudo-masks: thin parts are often missing, what goes with an "
        "object is often included, other objects are left as background.",
        "rai:dataBiases": "Those of the diffusion model's training data and of the captions.",
        "rai:personalSensitiveInformation": "None; people in the images are invented.",
        **(_LABELLED if labelled else {}),
    }
