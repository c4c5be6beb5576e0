"""The pipelines of diffusers that can be drawn with, by the class that ``model_index.json`` names.

What Stable Diffusion 1, 2 and XL have in common is a UNet with cross-attention, which maps are read
from; what sets them apart is how texts reach it. No torch, no diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ovamgen.console.wording import listed

SIZE_IDS = 6
"""Numbers of original size, crop and target size, which XL's UNet takes beside the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Pipelines of one class of diffusers."""

    pipeline: str
    """Name of the class."""
    text_encoders: tuple[str, ...]
    """Components whose outputs stand side by side in a row of text."""
    tokenizers: tuple[str, ...]
    """One for each of them."""
    last_layer: bool
    """Rows are the output of the last layer, normalised; else of the last but one, as it is."""
    size_ids: bool
    """The UNet is told sizes and a pooled text as well."""
    has_checker: bool
    """A safety checker may come with it."""


SD = Family(
    pipeline="StableDiffusionPipeline",
    text_encoders=("text_encoder",),
    tokenizers=("tokenizer",),
    last_layer=True,
    size_ids=False,
    has_checker=True,
)
"""Stable Diffusion 1.x and 2.x, and what was fine-tuned from them."""
SDXL = Family(
    pipeline="StableDiffusionXLPipeline",
    text_encoders=("text_encoder", "text_encoder_2"),
    tokenizers=("tokenizer", "tokenizer_2"),
    last_layer=False,
    size_ids=True,
    has_checker=False,
)
"""Stable Diffusion XL: rows of 768 and 1280 numbers side by side (arXiv 2307.01952)."""

FAMILIES: Mapping[str, Family] = MappingProxyType({one.pipeline: one for one in (SD, SDXL)})

_TRANSFORMERS = ("StableDiffusion3", "Flux", "PixArt", "Sana", "Hunyuan", "AuraFlow", "QwenImage")
"""Beginnings of the names of pipelines that draw with a transformer."""


def why_unsupported(pipeline: str) -> str:
    """Why pipelines of a class cannot be drawn with, and which can: words that follow its name."""
    why = "is not one of those that can be drawn with"
    if pipeline.startswith(_TRANSFORMERS):
        why = "draws with a transformer, which has no UNet that maps could be read from"
    elif any(word in pipeline for word in ("Inpaint", "Img2Img", "Depth", "ControlNet", "Upscale")):
        why = "draws from a picture, and not from a text alone"
    return f"{why}: {listed(FAMILIES)} can (Stable Diffusion 1.x, 2.x and XL)"
