"""One sample of a tar: whether its members can be decoded and agree with all that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ovamgen.bounds import MAX_PIXELS
from ovamgen.classes.class_entry import IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import default_classes
from ovamgen.errors import ShardError
from ovamgen.integrity.findings import instead
from ovamgen.records import SampleSpec
from ovamgen.shards.codec import CAPTION, HEATMAPS, MEMBERS, METADATA, DecodedSample, decode_sample
from ovamgen.shards.schema import NO_TARGET, planned_fields, to_json
from ovamgen.storage.plain_json import load_plain_json

MAX_TEXT_BYTES = 1024**2
"""Bytes of a json or caption member, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRules:
    """What all samples of an output have in common."""

    fingerprints: frozenset[str] = frozenset()
    """Fingerprints that samples may carry; empty where it is not known."""
    provenance: tuple[tuple[str, Any], ...] = ()
    """Fields of ``KEY.json`` that have one value in the whole output."""
    heatmaps: bool | None = None
    """Whether every sample has stored heatmaps; None where it is not known."""
    classes: ClassSet = field(default_factory=default_classes)
    """The classes that targets and masks may be of."""


def problems_of(
    key: str,
    members: Mapping[str, bytes],
    rules: SampleRules,
    row: Mapping[str, Any] | None,
    spec: SampleSpec | None,
) -> list[str]:
    """Everything that is wrong with a sample, in words; empty where nothing is.

    Args:
        key: that its members carry.
        members: by extension, in the order of the tar.
        rules: of the output.
        row: its row of the shard's metadata, where that can be read.
        spec: what was planned, where there is a plan.
    """
    order = tuple(sorted(members))
    with_heatmaps = tuple(sorted({*MEMBERS, HEATMAPS}))
    allowed = {None: (MEMBERS, with_heatmaps), True: (with_heatmaps,), False: (MEMBERS,)}
    if order not in allowed[rules.heatmaps] or tuple(members) != order:
        wanted = " or ".join(", ".join(names) for names in allowed[rules.heatmaps])
        return [f"the members {', '.join(members)} instead of {wanted}"]
    for name in (METADATA, CAPTION):
        if len(members[name]) > MAX_TEXT_BYTES:
            return [f"a {name} member of {len(members[name])} bytes"]
    try:
        _check_size(members[METADATA])
        sample = decode_sample(members)
    except ShardError as error:
        return [instead(error)]
    return [*_disagreements(key, members, sample, rules), *_against(sample, row, spec)]


def _check_size(data: bytes) -> None:
    """The declared size is looked at before any pixel is decoded."""
    try:
        values = load_plain_json(data)
        height, width = values["height"], values["width"]
        pixels = height * width
        too_many = not 0 < pixels <= MAX_PIXELS or min(height, width) < 1
    except (ValueError, RecursionError, KeyError, TypeError, OverflowError):
        return  # `decode_sample` says better what is wrong
    if too_many:
        raise ShardError(f"an image of {height} x {width} pixels, at most {MAX_PIXELS} are read")


def _disagreements(
    key: str, members: Mapping[str, bytes], sample: DecodedSample, rules: SampleRules
) -> list[str]:
    found = []
    metadata = sample.metadata
    if sample.key != key:
        found.append(f"the key {sample.key} in its json")
    try:
        canonical = to_json(metadata).encode() == members[METADATA]
    except UnicodeEncodeError:
        canonical = False
    if not canonical:
        found.append("a json member that ovamgen would write otherwise")
    if sample.caption != metadata["caption"]:
        found.append("another caption in the txt member than in the json member")
    ids = set(np.bincount(sample.labels.ravel(), minlength=256).nonzero()[0].tolist())
    strange = ids - {0, IGNORE, *metadata["class_ids"]}
    if strange:
        found.append(f"the ids {sorted(strange)} in the mask, which are none of its targets")
    targets = metadata["class_ids"]
    known = {entry.id for entry in rules.classes.classes}
    strange_targets = len(set(targets)) != len(targets) or not known.issuperset(targets)
    if strange_targets and targets != [*NO_TARGET["class_ids"]]:
        found.append(f"the targets {targets}")
    if rules.fingerprints and metadata["fingerprint"] not in rules.fingerprints:
        found.append(f"the fingerprint {metadata['fingerprint'][:12]} of another run")
    found += [
        f"{name} {metadata[name]!r} instead of {value!r}"
        for name, value in rules.provenance
        if metadata[name] != value
    ]
    return found


def _against(
    sample: DecodedSample, row: Mapping[str, Any] | None, spec: SampleSpec | None
) -> list[str]:
    found = []
    if row is not None:
        differing = [name for name, value in sample.metadata.items() if row[name] != value]
        if differing:
            found.append(f"other {', '.join(differing)} in its json than in the metadata table")
    if spec is not None:
        planned = planned_fields(spec)
        differing = [name for name, value in planned.items() if sample.metadata[name] != value]
        if differing:
            found.append(f"other {', '.join(differing)} than planned")
    return found
