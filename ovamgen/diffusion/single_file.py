"""A whole model in one file, in CompVis' layout, checked before anything heavy is imported.

Fine-tuned models come as such files: UNet, VAE and text encoders under the names of the first
release of Stable Diffusion, and nothing else. What is not in it (configurations, tokenizers, the
noise schedule) is that of the published model that it was tuned from. No torch, no diffusers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ovamgen.config import ModelConfig
from ovamgen.console.wording import listed
from ovamgen.diffusion.architectures import SD15, SD21, SDXL_BASE, Architecture
from ovamgen.diffusion.families import why_unsupported
from ovamgen.diffusion.weight_file import WeightFile, read_header
from ovamgen.errors import ConfigError

UNET = "model.diffusion_model."
VAE = "first_stage_model."

PUBLISHED: tuple[Architecture, ...] = (SD15, SD21, SDXL_BASE)
"""What a file may be tuned from; the width of a row of text tells which it is."""

_SUFFIXES = (".safetensors", ".ckpt")
_LORA = ("lora_unet_", "lora_te", "unet.", "text_encoder.")
_TRANSFORMERS = {"joint_blocks.": "StableDiffusion3Pipeline", "double_blocks.": "FluxPipeline"}
_BASE_CELLS = 64
"""A 2.x that predicts noise is the one of 512x512 pixels ("base"); the one of 768 does not."""
_PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}
"""What diffusers calls what ModelSpec says: "In Stable Diffusion, `v` or `epsilon`"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFile:
    """A file whose header is that of a model that can be drawn with."""

    weights: WeightFile
    architecture: Architecture
    """With what the file, or the user, says of the prediction."""


def is_single_file(model: str) -> bool:
    """Whether the name of a model is that of a file, be it there or not."""
    return model.endswith(_SUFFIXES) and not Path(model).expanduser().is_dir()


def check_file(model: ModelConfig) -> SingleFile:
    """What a file holds, from its header.

    Args:
        model: whose ``id`` is the path of the file.

    Raises:
        ConfigError: it is no file of a Stable Diffusion that can be drawn with, or does not say
            what its UNet predicts.
    """
    weights = read_header(Path(model.id).expanduser(), "model file")
    if model.variant is not None:
        raise ConfigError(
            f"model.variant '{model.variant}' chooses among files, {weights.place} is one: leave "
            "model.variant away"
        )
    _check_kind(weights)
    architecture = _architecture(weights, PUBLISHED)
    prefixes = (UNET, VAE, *architecture.text_prefixes)
    for part, prefix in zip(("UNet", "VAE", *architecture.text_encoders), prefixes, strict=True):
        if not weights.has(prefix):
            raise ConfigError(
                f"{weights.place} holds no {part} (no tensor begins with {prefix}): a file of the "
                "whole model is needed, and not of a part of it"
            )
    weights.check_numbers(*prefixes)
    return SingleFile(
        weights=weights, architecture=_predicting(architecture, weights, model.prediction)
    )


def _check_kind(weights: WeightFile) -> None:
    """Checks that the file holds a UNet in CompVis' layout that draws from a text alone."""
    if weights.has(*_LORA) and any("lora" in name for name in weights.shapes):
        raise ConfigError(
            f"{weights.place} is a LoRA, which changes a model: give the model with --model, and "
            "the file with model.loras"
        )
    for start, pipeline in _TRANSFORMERS.items():
        if weights.has(start, UNET + start):
            raise ConfigError(
                f"{weights.place} holds a {pipeline}, which {why_unsupported(pipeline)}"
            )
    conv_in = weights.shapes.get(f"{UNET}input_blocks.0.0.weight", ())
    if len(conv_in) != 4:
        hint = " (it is one of the parts of a folder: give the folder)"
        in_folder = weights.has("down_blocks.", "conv_in.", "text_model.", "encoder.")
        raise ConfigError(
            f"{weights.place} holds no Stable Diffusion: the tensors of its UNet must begin with "
            f"{UNET}input_blocks, got {next(iter(weights.shapes), 'no tensor')!r:.80}"
            f"{hint if in_folder else ''}"
        )
    if conv_in[1] != 4:
        raise ConfigError(
            f"{weights.place}: its UNet takes {conv_in[1]} channels, 4 expected: a text-to-image "
            "UNet is needed, not an inpainting or depth one"
        )
    if "edm_mean" in weights.shapes:
        raise ConfigError(
            f"{weights.place} is a Playground 2.5, which has another noise schedule than Stable "
            "Diffusion XL: such models cannot be drawn with"
        )


def _architecture(weights: WeightFile, known: Sequence[Architecture]) -> Architecture:
    rows = sorted(
        {
            shape[1]
            for name, shape in weights.shapes.items()
            if name.startswith(UNET) and name.endswith(".attn2.to_k.weight") and len(shape) == 2
        }
    )
    found = [one for one in known if [one.unet["cross_attention_dim"]] == rows]
    if not found:
        got = listed(map(str, rows[:3])) if rows else "none, since it has no cross-attention"
        raise ConfigError(
            f"{weights.place}: its UNet takes rows of text of width {got}; those of 1.x have 768, "
            "of 2.x 1024, of XL 2048 columns: no other Stable Diffusion can be drawn with"
        )
    return found[0]


def _predicting(architecture: Architecture, weights: WeightFile, asked: str) -> Architecture:
    """The architecture with what its UNet predicts: noise or velocities."""
    own = architecture.noise["prediction_type"]
    said = asked if asked != "auto" else _said_prediction(weights)
    if said is None and own != "epsilon":
        raise ConfigError(
            f"{weights.place} is of Stable Diffusion 2.x and does not say what its UNet predicts: "
            "give --set model.prediction=v_prediction (those of 768x768 pixels) or "
            "model.prediction=epsilon (those of 512x512)"
        )
    if said is None or said == own:
        return architecture
    unet = architecture.unet
    if own == "v_prediction":
        unet = unet | {"sample_size": min(_BASE_CELLS, unet["sample_size"])}
    return replace(architecture, unet=unet, noise=architecture.noise | {"prediction_type": said})


def _said_prediction(weights: WeightFile) -> str | None:
    """What the file says itself, as ModelSpec or by the empty tensor that trainers leave in it."""
    if "v_pred" in weights.shapes:
        return "v_prediction"
    return _PREDICTIONS.get(weights.metadata.get("modelspec.prediction_type", ""))
