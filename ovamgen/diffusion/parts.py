"""What all pipelines of one architecture have in common: networks to be filled, and the rest.

Tokenizers and schedulers are small and the same for every set of weights, so they come from the
package: whoever has the weights alone has a pipeline, without a network connection.
"""

from __future__ import annotations

from typing import Any

from accelerate import init_empty_weights  # type: ignore[import-untyped]  # has no stubs
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTokenizer

from ovamgen.diffusion.architectures import Architecture
from ovamgen.diffusion.loading import TEXT_ENCODERS, assemble
from ovamgen.diffusion.schedulers import scheduler_class
from ovamgen.tokenizer import clip_vocabulary


def empty_networks(architecture: Architecture) -> dict[str, Any]:
    """UNet, VAE and text encoders by name; their parameters are on the meta device."""
    with init_empty_weights(include_buffers=False):
        return {
            "unet": UNet2DConditionModel(**architecture.unet),
            "vae": AutoencoderKL(**architecture.vae),
            **{
                name: TEXT_ENCODERS[name](CLIPTextConfig(**arguments))
                for name, arguments in architecture.text_encoders.items()
            },
        }


def complete(architecture: Architecture, networks: dict[str, Any]) -> Any:
    """The architecture's pipeline of these networks, with CLIP's tokenizers and its scheduler.

    Args:
        architecture: what the networks are of.
        networks: those of `empty_networks`, once they have weights.
    """
    parts = {name: network.eval() for name, network in networks.items()}
    vocabulary, merges = clip_vocabulary()
    length = architecture.text_encoder["max_position_embeddings"]
    for name, pad in zip(architecture.family.tokenizers, architecture.pads, strict=True):
        parts[name] = CLIPTokenizer(
            vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=length
        )
    scheduler = scheduler_class(architecture.scheduler)
    return assemble(
        architecture.family,
        {
            **parts,
            "scheduler": scheduler.from_config(architecture.noise),
            "safety_checker": None,
            "feature_extractor": None,
        },
    )
