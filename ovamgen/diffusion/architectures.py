"""Architectures that are built from code: Stable Diffusion 1.5's own.

They are plain configurations, without torch; `ovamgen.diffusion.random_weights` gives them seeded
random weights. Images of random weights show nothing, but take the time and memory of real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ovamgen.diffusion.facts import ModelFacts, facts_of

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

    def facts(self, model: str) -> ModelFacts:
        """What a pipeline of this architecture will be."""
        return facts_of(model, self.unet, self.vae, self.text_encoder, safety_checker=False)


SD15 = Architecture(
    unet={
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 768,
        # diffusers' name for the number of heads in this family
        "attention_head_dim": 8,
        "norm_num_groups": 32,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    },
    vae={
        "sample_size": 512,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    },
    text_encoder={
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    },
)
"""UNet of 859,520,964 parameters, 15 cross-attention layers and a middle one (methods 0.2); text
encoder of CLIP ViT-L/14; VAE of factor 8."""

ARCHITECTURES: dict[str, Architecture] = {"random:sd15": SD15}
