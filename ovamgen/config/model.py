"""The section ``model`` of a configuration: which pipeline, with which LoRAs, and where."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from ovamgen.storage.section import Section

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
DEFAULT_REVISION = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
"""The commit of the default model; the repository of the original publisher is gone."""

MODEL_IDENTITY = ("id", "revision", "variant", "prediction", "loras")
"""Fields of the section that say which model it is; device and precision are the machine's."""

_MOST_LORAS = 16
_MOST_WEIGHT = 10.0


class Lora(Section):
    """Matrices of low rank (LoRA, arXiv 2106.09685) that are added to a model's weights."""

    path: str = Field(min_length=1)
    """A local file (.safetensors), or a folder with ``pytorch_lora_weights.safetensors``."""
    weight: float = Field(default=1.0, ge=-_MOST_WEIGHT, le=_MOST_WEIGHT, allow_inf_nan=False)
    """What they are multiplied by, beside the file's own alpha / rank."""


def _as_lora(value: Any) -> Any:
    """A path alone is a LoRA of weight 1; ``PATH=WEIGHT`` names another."""
    if not isinstance(value, str):
        return value
    path, _, weight = value.rpartition("=")
    return {"path": path, "weight": weight} if path else {"path": value}


class ModelConfig(Section):
    """Which diffusion pipeline, in which precision, on which device."""

    came_later: ClassVar = frozenset({"loras", "prediction"})

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
    loras: tuple[Annotated[Lora, BeforeValidator(_as_lora)], ...] = Field(
        default=(), max_length=_MOST_LORAS
    )
    """LoRAs that are fused into the weights, in this order: ``[{path: style.safetensors, weight:
    0.8}]``, or ``PATH=WEIGHT``, or paths alone."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; ``auto``: cpu for ``mini``, cuda for all others."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Precision; ``auto``: float32 on cpu, float16 on cuda."""

    @field_validator("loras", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """One LoRA is a list of it: ``--set model.loras=style.safetensors`` is meant so."""
        return [value] if isinstance(value, str | dict) else value
