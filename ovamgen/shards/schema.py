"""What is written down about a sample: the one schema of ``KEY.json`` and of the metadata table.

Loaders infer column types from the first few samples and drop or zero whatever differs later
(conventions 3.3). So every sample has every field, floats have a decimal point, and nothing is null
or an empty list. This module knows no image format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from ovamgen.classes.class_entry import BACKGROUND
from ovamgen.errors import SampleError
from ovamgen.records import SampleSpec

SCHEMA_VERSION = 1

NO_TARGET: Mapping[str, tuple[object]] = MappingProxyType(
    {
        "class_ids": (BACKGROUND,),
        "class_names": ("background",),
        "phrases": ("background",),
        "scores": (0.0,),
        "areas": (1.0,),
        "heatmap_max": (0.0,),
    }
)
"""The lists of a sample that is to show no class: an empty list would be no witness of a type.

Its mask is 0 all over; no map was asked for, so that there is no score and no preview."""

DIGITS = 6
"""Decimals of measured values, so that the last bits of a sum do not make other files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What all samples of a run share and depend on; written into every one of them."""

    fingerprint: str
    """sha256 of everything that determines the run's samples (`ovamgen.config.fingerprint`)."""
    model: str
    model_revision: str
    """The commit of a hub id, else ""."""
    model_digest: str
    """sha256 over the weights."""
    model_trained: bool
    """False for random weights: such samples are for tests only."""
    tokens: str
    """Name of the token bank, or ``words`` or ``untrained``."""
    tokens_sha256: str
    """"" for words."""
    method: str
    branch: str
    mask_preset: str
    tau: float
    scheduler: str
    steps: int
    guidance: float
    ovamgen_version: str


def _field(name: str, kind: pa.DataType, doc: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"description": doc})


_TARGETS = "one for each target, in the order of class_ids"

# The texts are in the bytes of every corpus's metadata, so those of class_ids and class_names still
# speak of VOC, the default: they are ids and names of the run's classes, whatever these are.
SAMPLE_SCHEMA: pa.Schema = pa.schema(
    [
        _field("schema_version", pa.int64(), "version of this schema"),
        _field("key", pa.string(), "WebDataset key: 6 digits of the shard, 5 of the index"),
        _field("caption", pa.string(), "the caption as it stands in the source"),
        _field("prompt", pa.string(), "the text that the image was generated from"),
        _field("caption_id", pa.int64(), "id of the caption in the source"),
        _field("image_id", pa.int64(), "id of the captioned image, -1 where there is none"),
        _field("seed", pa.int64(), "seed of the initial noise"),
        _field("class_ids", pa.list_(pa.int64()), "VOC ids 1..20 of the targets"),
        _field("class_names", pa.list_(pa.string()), f"VOC name, {_TARGETS}"),
        _field("phrases", pa.list_(pa.string()), f"the words for the class, {_TARGETS}"),
        _field("scores", pa.list_(pa.float64()), f"mean score inside the mask, {_TARGETS}"),
        _field("areas", pa.list_(pa.float64()), f"mask as a fraction of the image, {_TARGETS}"),
        _field(
            "heatmap_max",
            pa.list_(pa.float64()),
            f"maximum of the heatmap as a fraction of the possible, {_TARGETS}",
        ),
        _field("word_included", pa.bool_(), "every target is named in the prompt"),
        _field(
            "word_included_published", pa.bool_(), "the first target's name is a substring of it"
        ),
        _field("height", pa.int64(), "pixels"),
        _field("width", pa.int64(), "pixels"),
        _field("unsafe", pa.bool_(), "verdict of the safety checker; false where none ran"),
        _field("image_sha256", pa.string(), "of the RGB pixels before JPEG, row by row"),
        _field("mask_sha256", pa.string(), "of the mask's class ids, row by row"),
        _field("fingerprint", pa.string(), "sha256 of everything that determines the run"),
        _field("model", pa.string(), "diffusion model"),
        _field("model_revision", pa.string(), "commit of the model"),
        _field("model_digest", pa.string(), "sha256 over the model's weights"),
        _field("model_trained", pa.bool_(), "false for random weights"),
        _field("tokens", pa.string(), "token bank, or words or untrained"),
        _field("tokens_sha256", pa.string(), "sha256 of the token bank"),
        _field("method", pa.string(), "attribution method"),
        _field("branch", pa.string(), "half of the guided batch that queries were read from"),
        _field("mask_preset", pa.string(), "preset of the mask settings"),
        _field("tau", pa.float64(), "threshold on the normalised heatmap"),
        _field("scheduler", pa.string(), "diffusers scheduler"),
        _field("steps", pa.int64(), "num_inference_steps"),
        _field("guidance", pa.float64(), "guidance_scale"),
        _field("ovamgen_version", pa.string(), "version of ovamgen"),
    ]
)
"""The fields of ``KEY.json``, in the order of the table's columns; descriptions in the metadata."""

_LIST_FIELDS = tuple(field.name for field in SAMPLE_SCHEMA if pa.types.is_list(field.type))

METADATA_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("status", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        *(field.with_nullable(True) for field in SAMPLE_SCHEMA),
        pa.field("previews", pa.list_(pa.binary())),
    ]
)
"""The metadata table: ``status`` is ``ok`` or ``failed``; stage and reason are "" for ``ok``; what
a failed sample never came to have is null."""

EXTRA_FIELDS = (
    (
        _field("retry_of", pa.string(), "key of the sample that failed first"),
        _field("retry_of_seed", pa.int64(), "the seed that the attempt before failed with"),
        _field("attempt", pa.int64(), "1 for the first attempt after it"),
    ),
    (
        _field("picture", pa.string(), "path of the picture that was labelled"),
        _field("picture_bytes", pa.int64(), "size of its file"),
        _field("picture_height", pa.int64(), "pixels, upright"),
        _field("picture_width", pa.int64(), "pixels, upright"),
        _field("label_height", pa.int64(), "pixels of the image in the shard"),
        _field("label_width", pa.int64(), "pixels of the image in the shard"),
    ),
)
"""Columns that the table has beside them where all samples of a shard are failed ones, tried again
(`ovamgen.records.Retry`), or labelled pictures (`ovamgen.records.SourcePicture`)."""


def extra_fields(names: Collection[str]) -> list[pa.Field]:
    """Those of `EXTRA_FIELDS` whose group is among the names of columns."""
    return [field for group in EXTRA_FIELDS if group[0].name in names for field in group]


def metadata_schema(names: Collection[str]) -> pa.Schema:
    """`METADATA_SCHEMA` with the `extra_fields` of the names of columns."""
    return pa.schema([*METADATA_SCHEMA, *extra_fields(names)])


PLANNED_FIELDS = (
    *("schema_version", "key", "caption", "prompt", "caption_id", "image_id", "seed"),
    *("class_ids", "class_names", "phrases", "word_included", "word_included_published"),
)
"""What is known of a sample before it is made, as `spec_fields` gives it."""


def spec_fields(spec: SampleSpec) -> dict[str, object]:
    """What a sample was to be, as fields of its metadata; known of failed samples too."""
    return {
        "schema_version": SCHEMA_VERSION,
        "key": spec.key,
        "caption": spec.caption,
        "prompt": spec.prompt,
        "caption_id": spec.caption_id,
        "image_id": spec.image_id,
        "seed": spec.seed,
        "class_ids": [t.class_id for t in spec.targets] or [*NO_TARGET["class_ids"]],
        "class_names": [t.class_name for t in spec.targets] or [*NO_TARGET["class_names"]],
        "phrases": [t.phrase for t in spec.targets] or [*NO_TARGET["phrases"]],
        "word_included": spec.word_included,
        "word_included_published": spec.word_included_published,
    }


def planned_fields(spec: SampleSpec) -> dict[str, object]:
    """`spec_fields` as far as they are known before a sample is made."""
    found = ("class_ids", "class_names", "phrases") if spec.finds_classes else ()
    return {name: value for name, value in spec_fields(spec).items() if name not in found}


def targets_of(row: Mapping[str, Any]) -> list[int]:
    """Class ids of a sample's targets, from its metadata; none where it is to show no class."""
    return [class_id for class_id in row["class_ids"] if class_id != BACKGROUND]


def provenance_fields(provenance: Provenance) -> dict[str, object]:
    """The provenance as fields of a sample's metadata."""
    return {field.name: getattr(provenance, field.name) for field in fields(provenance)}


def conform(values: Mapping[str, object]) -> dict[str, Any]:
    """The values with exactly the schema's fields and Python types, in its order.

    Raises:
        SampleError: a field is missing or unknown, a value has another type, a float is not finite,
            an integer does not fit 64 bits, a list is empty or its length differs from the others.
    """
    expected = set(SAMPLE_SCHEMA.names)
    if set(values) != expected:
        raise SampleError(
            f"a sample's metadata has other fields than schema {SCHEMA_VERSION}: missing "
            f"{sorted(expected - set(values))}, unknown {sorted(set(values) - expected)}"
        )
    record = {field.name: _value(field.name, values[field.name], field) for field in SAMPLE_SCHEMA}
    lengths = {name: len(record[name]) for name in _LIST_FIELDS}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise SampleError(
            f"a sample's lists must have one entry for each of its targets, got {lengths}"
        )
    return record


_encode = json.JSONEncoder(ensure_ascii=False).encode
"""`json.dumps` would make a new encoder for every field."""


def to_json(record: Mapping[str, object]) -> str:
    """One line of JSON, keys sorted, no spaces, every float in positional notation with a point."""
    return "{" + ",".join(f"{_text(name)}:{_text(record[name])}" for name in sorted(record)) + "}"


def rounded(values: Any) -> list[float]:
    """Measured values with 6 decimals, as Python floats."""
    return [round(float(value), DIGITS) for value in values]


def _value(name: str, value: object, field: pa.Field) -> Any:
    if pa.types.is_list(field.type):
        if not isinstance(value, list | tuple):
            raise SampleError(f"metadata field {name} must be a list, got {value!r}")
        return [_scalar(name, item, field.type.value_type) for item in value]
    return _scalar(name, value, field.type)


def _scalar(name: str, value: object, kind: pa.DataType) -> bool | int | float | str:
    if pa.types.is_boolean(kind) and isinstance(value, bool | np.bool_):
        return bool(value)
    if pa.types.is_string(kind) and isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise SampleError(f"metadata field {name} must fit 64 bits, got {value}")
        if pa.types.is_int64(kind):
            return int(value)
        value = float(value)
    if pa.types.is_float64(kind) and isinstance(value, float | np.floating):
        if math.isfinite(value):
            return float(value)
        raise SampleError(f"metadata field {name} must be finite, got {value}")
    raise SampleError(f"metadata field {name} must be of type {kind}, got {value!r}")


def _text(value: object) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_text(item) for item in value) + "]"
    if isinstance(value, float):
        return np.format_float_positional(value, trim="0")
    return _encode(value)
