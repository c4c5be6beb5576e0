"""What of a configuration determines the samples, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ovamgen.config.masks import RECORDED_SELF_ATTENTION
from ovamgen.config.models import RunConfig

SAMPLES_VERSION = 1
"""Raised when the same configuration begins to give other samples; part of every fingerprint."""
HALVES_VERSION = 2
"""The same for float16 and bfloat16 alone: corpora drawn in float32 are not refused for them."""
SMALL_MAPS_VERSION = 2
"""The same for maps of chosen layers that are refined by a matrix, which may have more positions
than they have, or multiplied by the attention of larger layers."""


def fingerprint(config: RunConfig, inputs: dict[str, str]) -> str:
    """sha256 (hex) of what determines the samples.

    Args:
        config: the resolved configuration; paths of inputs do not count, their digests do.
        inputs: digest of every file that was read: ``captions``, ``instances``, ``tokens``,
            ``head``, ``pictures``, ``lora_0`` and so on.
    """
    return fingerprint_of(identity(config, inputs))


def fingerprint_of(identity: Mapping[str, Any]) -> str:
    """sha256 (hex) of the values that `identity` gives, and others beside them."""
    return hashlib.sha256(canonical_json(dict(identity)).encode()).hexdigest()


def identity(config: RunConfig, inputs: dict[str, str]) -> dict[str, Any]:
    """The flat ``section.field`` values that a fingerprint is made of, to compare two runs by."""
    flat = {"samples_version": SAMPLES_VERSION, **flatten(config.semantic())}
    if config.model.dtype != "float32":
        flat["halves_version"] = HALVES_VERSION
    if config.attribution.resolutions and config.masks.self_attention in RECORDED_SELF_ATTENTION:
        flat["small_maps_version"] = SMALL_MAPS_VERSION
    for path_field in ("plan.captions", "plan.instances", "label.pictures"):
        flat.pop(path_field, None)
    if "tokens" in inputs:
        flat.pop("attribution.tokens")
    if "head" in inputs:
        flat.pop("attribution.head")
    if "lora_0" in inputs:
        flat["model.loras"] = [lora.weight for lora in config.model.loras]
    return flat | {f"inputs.{name}": digest for name, digest in sorted(inputs.items())}


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def canonical_json(data: Any) -> str:
    """JSON with sorted keys and no spaces: equal data, equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
