"""Architectures that are built from code: Stable Diffusion 1.5's own, and a miniature of it.

They are plain configurations, without torch; `ovamgen.diffusion.random_weights` gives them seeded
random weights. Images of random weights show nothing, but take the time and memory of real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ovamgen.diffusion.facts import ModelFacts, facts_of

_DOWN = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
_UP = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")

SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""PNDM as Stable Diffusion 1.5 sets it (methods 0.3): n steps are n + 1 UNet calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Constructor arguments of a pipeline's parts; the tokenizer is CLIP's."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    attention_gain: float = 1.0
    """Factor of the random queries' and keys' size in cross-attention; 1 gives nearly flat maps."""

    def facts(self, model: str) -> ModelFacts:
        """What a pipeline of this architecture will be."""
        return facts_of(model, self.unet, self.vae, safety_checker=False)


def _architecture(
    *,
    channels: tuple[int, ...],
    heads: int,
    groups: int,
    latent_side: int,
    text: dict[str, Any],
    vae_channels: tuple[int, ...],
    vae_groups: int,
    vae_layers: int,
    attention_gain: float = 1.0,
) -> Architecture:
    """The four-block layout of SD 1.x (methods 0.2): 15 cross-attention layers and a middle one."""
    factor = 2 ** (len(vae_channels) - 1)
    return Architecture(
        unet={
            "sample_size": latent_side,
            "block_out_channels": channels,
            "layers_per_block": 2,
            "cross_attention_dim": text["hidden_size"],
            # diffusers' name for the number of heads in this family
            "attention_head_dim": heads,
            "norm_num_groups": groups,
            "down_block_types": _DOWN,
            "up_block_types": _UP,
        },
        vae={
            "sample_size": latent_side * factor,
            "block_out_channels": vae_channels,
            "layers_per_block": vae_layers,
            "norm_num_groups": vae_groups,
            "latent_channels": 4,
            "down_block_types": ("DownEncoderBlock2D",) * len(vae_channels),
            "up_block_types": ("UpDecoderBlock2D",) * len(vae_channels),
        },
        text_encoder={
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "hidden_act": "quick_gelu",
            "bos_token_id": 49406,
            "eos_token_id": 49407,
            "pad_token_id": 49407,
            **text,
        },
        attention_gain=attention_gain,
    )


SD15 = _architecture(
    channels=(320, 640, 1280, 1280),
    heads=8,
    groups=32,
    latent_side=64,
    text={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
    },
    vae_channels=(128, 256, 512, 512),
    vae_groups=32,
    vae_layers=2,
)
"""UNet of 859,520,964 parameters, text encoder of CLIP ViT-L/14, VAE of factor 8."""

MINI = _architecture(
    channels=(24, 24, 40, 40),
    heads=2,
    groups=8,
    latent_side=16,
    text={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 32,
    },
    vae_channels=(16, 16, 24, 24),
    vae_groups=8,
    vae_layers=1,
    attention_gain=4.0,
)
"""The same layout with a UNet of about a million parameters, for images of 128x128 pixels."""

ARCHITECTURES: dict[str, Architecture] = {"mini": MINI, "random:sd15": SD15}
