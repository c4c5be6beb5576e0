"""Readers of captions and instances: a file or URL in, records and a digest out.

The format is told by the file's ending; what makes a caption a sample is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import PlanError
from ovamgen.plan.caption_tables import Caption, read_table
from ovamgen.plan.coco_json import Instance, coco_captions, coco_instances
from ovamgen.plan.source import read_source

__all__ = [
    "Caption",
    "CaptionFile",
    "CaptionFormat",
    "CaptionStream",
    "Instance",
    "InstanceFile",
    "open_captions",
    "read_captions",
    "read_instances",
]

CaptionFormat = Literal["coco", "csv", "tsv", "jsonl", "parquet", "text"]

_FORMATS: dict[str, CaptionFormat] = {
    ".json": "coco",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionFile:
    """A file of captions, read."""

    captions: tuple[Caption, ...]
    """In the order of the file; at least one."""
    sha256: str
    """SHA-256 of the file as it is stored, hex."""
    format: CaptionFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionStream:
    """A file of captions that is read while they are taken."""

    captions: Iterator[Caption]
    """In the order of the file; at least one. What is wrong with the file is raised here."""
    sha256: str
    """SHA-256 of the file as it is stored, hex."""
    format: CaptionFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFile:
    """A COCO instances file, read: what it says of the classes."""

    instances: tuple[Instance, ...]
    """In the order of the file, without crowds and without other classes."""
    image_ids: frozenset[int]
    """Every image that the file lists, those without instances too."""
    sha256: str
    """SHA-256 of the file as it is stored, hex."""


def read_captions(url: str) -> CaptionFile:
    """The captions of a local file or fsspec URL, with the digest of its stored bytes.

    Args:
        url: ends in ``.json`` (COCO captions), ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``,
            ``.parquet`` or ``.txt`` (a caption a line), any of them with ``.gz`` or without.

    Raises:
        PlanError: the file is missing, unreadable, damaged, of another format, or without captions.
    """
    stream = open_captions(url)
    return CaptionFile(captions=tuple(stream.captions), sha256=stream.sha256, format=stream.format)


def open_captions(url: str, *, of_pictures: bool = False) -> CaptionStream:
    """As `read_captions`, one caption at a time; COCO's JSON is one document and read whole.

    Args:
        url: as there.
        of_pictures: `Caption.picture` is wanted; the file must tell it.

    Raises:
        PlanError: the file is missing, unreadable, or its name is of no format.
    """
    source = read_source(url)
    form = _FORMATS.get(source.suffix)
    if form is None:
        raise PlanError(
            f"{url}: expected a name that ends in {', '.join(_FORMATS)} (or these with .gz), "
            f"got '{source.suffix}'"
        )
    if form == "coco":
        captions = iter(coco_captions(source, of_pictures=of_pictures))
    else:
        captions = read_table(source, of_pictures=of_pictures)
    return CaptionStream(captions=_some(url, captions), sha256=source.sha256, format=form)


def _some(url: str, captions: Iterator[Caption]) -> Iterator[Caption]:
    caption = None
    for caption in captions:
        yield caption
    if caption is None:
        raise PlanError(f"{url}: expected captions, the file holds none")


def read_instances(url: str, classes: ClassSet) -> InstanceFile:
    """The instances of a COCO instances JSON, a local file or fsspec URL, ``.gz`` too.

    Args:
        url: of the file.
        classes: whose categories are kept, by their names.

    Raises:
        PlanError: the file is missing, unreadable, damaged or no COCO instances file.
    """
    source = read_source(url)
    instances, image_ids = coco_instances(source, classes)
    return InstanceFile(instances=tuple(instances), image_ids=image_ids, sha256=source.sha256)
