"""The section ``model`` of a configuration: which pipeline, in which precision, and where."""

from __future__ import annotations

from typing import Literal

from ovamgen.storage.section import Section

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
DEFAULT_REVISION = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
"""The commit of the default model; the repository of the original publisher is gone."""


class ModelConfig(Section):
    """Which diffusion pipeline, in which precision, on which device."""

    id: str = DEFAULT_MODEL
    """``mini``, a local folder in diffusers format, a hub id, or random weights: ``random:sd15``,
    ``random:sd21``, ``random:sdxl``."""
    revision: str | None = None
    """Commit of a hub id; ``ID@REV`` in ``id`` says the same."""
    variant: str | None = None
    """Weight files of a hub id or folder, such as ``fp16``."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; ``auto``: cpu for ``mini``, cuda for all others."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Precision; ``auto``: float32 on cpu, float16 on cuda."""
