"""The section ``model`` of a configuration: which pipeline, in which precision, and where."""

from __future__ import annotations

from typing import ClassVar, Literal

from ovamgen.storage.section import Section

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
DEFAULT_REVISION = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
"""The commit of the default model; the repository of the original publisher is gone."""

MODEL_IDENTITY = ("id", "revision", "variant", "prediction")
"""Fields of the section that say which model it is; device and precision are the machine's."""


class ModelConfig(Section):
    """Which diffusion pipeline, in which precision, on which device."""

    came_later: ClassVar = frozenset({"prediction"})

    id: str = DEFAULT_MODEL
    """``mini``, a local folder in diffusers format, a local file (.safetensors), a hub id, or
    random weights: ``random:sd15``, ``random:sd21``, ``random:sdxl``."""
    revision: str | None = None
    """Commit of a hub id; ``ID@REV`` in ``id`` says the same."""
    variant: str | None = None
    """Weight files of a hub id or folder, such as ``fp16``."""
    prediction: Literal["auto", "epsilon", "v_prediction"] = "auto"
    """What the UNet of a model in one file predicts, noise or velocities; ``auto``: as the file
    says, or else noise. One of 2.x that does not say it is refused."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; ``auto``: cpu for ``mini``, cuda for all others."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Precision; ``auto``: float32 on cpu, float16 on cuda."""
