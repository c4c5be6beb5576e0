"""Ways to run the same network faster, by name: ``bf16+channels_last+compile``."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from ovamgen.console.wording import nearest
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.errors import ConfigError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

SWITCHES = {
    "channels_last": "weights and activations of convolutions with their channels innermost",
    "fused": "one product for queries, keys and values of self-attention (diffusers' own)",
    "compile": "the UNet call through torch.compile, its recording with it",
    "graphs": "the UNet call captured once as a CUDA graph and replayed",
}
"""What can be switched on beside a dtype, in the order in which names have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """A dtype and the switches that are on."""

    dtype: str
    """A key of `DTYPES`."""
    switches: frozenset[str] = frozenset()
    """Keys of `SWITCHES`."""

    @classmethod
    def parse(cls, name: str) -> Combination:
        """The combination of a name, its parts joined by ``+``.

        Raises:
            ConfigError: a part is unknown (the nearest is named), or there is not one dtype.
        """
        parts = name.replace(" ", "").split("+")
        known = [*DTYPES, *SWITCHES]
        for part in parts:
            if part not in known:
                where = f"part '{part}' in the combination '{name}'"
                raise ConfigError(f"unknown {where}{nearest(part, known)}")
        dtypes = [part for part in parts if part in DTYPES]
        if len(dtypes) != 1:
            raise ConfigError(
                f"a combination has one of {', '.join(DTYPES)}, '{name}' has {len(dtypes)}: "
                "give for example bf16+channels_last"
            )
        return cls(dtype=dtypes[0], switches=frozenset(parts) - set(DTYPES))

    @property
    def name(self) -> str:
        """The parts in a fixed order, joined by ``+``."""
        return "+".join([self.dtype, *(name for name in SWITCHES if name in self.switches)])

    def __contains__(self, switch: str) -> bool:
        return switch in self.switches


def default_combinations(device: str) -> tuple[Combination, ...]:
    """Today's default first, then each switch by itself, then together; what compiles comes last.

    Args:
        device: ``cuda`` or ``cpu``; halves are no gain on a CPU, so switches are tried in fp32.
    """
    today, base = ("fp16", "bf16") if device == "cuda" else ("fp32", "fp32")
    other = "bf16" if device == "cpu" else base
    names = [
        today,
        other,
        f"{base}+channels_last",
        f"{base}+fused",
        f"{base}+graphs",
        f"{base}+channels_last+fused",
        f"{base}+channels_last+fused+graphs",
        f"{base}+compile",
        f"{base}+channels_last+fused+compile",
        f"{base}+channels_last+fused+compile+graphs",
    ]
    return tuple(Combination.parse(name) for name in names)


def prepare(base: LoadedPipeline, combination: Combination, device: torch.device) -> LoadedPipeline:
    """A copy of the pipeline in the combination's dtype and layout, on the device.

    ``compile`` and ``graphs`` are about calls, not weights: `ovamgen.bench.unet_calls` does them.

    Args:
        base: stays as it is, on the CPU so that it takes no memory of the device.
        combination: what the copy is to be.
        device: where the copy goes.
    """
    parts: dict[str, Any] = dict(base.pipe.components)
    for name in ("unet", "vae", *base.family.text_encoders, "safety_checker"):
        if parts.get(name) is not None:
            parts[name] = copy.deepcopy(parts[name]).to(device, DTYPES[combination.dtype])
    for part in (parts["unet"], parts["vae"]):
        if "channels_last" in combination:
            part.to(memory_format=torch.channels_last)
        if "fused" in combination:
            part.fuse_qkv_projections()
        part.requires_grad_(False).eval()
    return base.with_parts(**parts)


def parse_all(names: Iterable[str], device: str) -> tuple[Combination, ...]:
    """The named combinations, each once; the default ones where none is named.

    Raises:
        ConfigError: a name that is none.
    """
    chosen = tuple(dict.fromkeys(Combination.parse(name) for name in names))
    return chosen or default_combinations(device)
