"""Architectures that are built from code: Stable Diffusion 1.5's, 2.1's and XL's own.

They are plain configurations, without torch; `ovamgen.diffusion.random_weights` gives them seeded
random weights. Images of random weights show nothing, but take the time and memory of real ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ovamgen.diffusion.facts import ModelFacts, facts_of
from ovamgen.diffusion.families import SD, SDXL, Family
from ovamgen.tokenizer import END

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
    """Constructor arguments of a pipeline's parts; the tokenizers are CLIP's."""

    family: Family = SD
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    text_encoder_2: dict[str, Any] = field(default_factory=dict)
    """Arguments of XL's second text encoder."""
    pads: tuple[str, ...] = (END,)
    """What each tokenizer fills up with."""
    text_prefixes: tuple[str, ...] = ("cond_stage_model.transformer.",)
    """Beginning of the names of each text encoder's tensors where all is in one file: those of
    OpenAI's CLIP end in ``transformer.``, those of OpenCLIP in ``model.``."""
    scheduler: str = "PNDMScheduler"
    noise: dict[str, Any] = field(default_factory=lambda: SCHEDULER)
    """The scheduler's configuration; drawings take the noise schedule of it."""

    @property
    def text_encoders(self) -> dict[str, dict[str, Any]]:
        """The arguments of each text encoder, by the name of its component."""
        return {name: getattr(self, name) for name in self.family.text_encoders}

    def facts(self, model: str) -> ModelFacts:
        """What a pipeline of this architecture will be."""
        texts = list(self.text_encoders.values())
        return facts_of(model, self.unet, self.vae, texts, safety_checker=False)


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

SD21 = Architecture(
    unet=SD15.unet
    | {
        "sample_size": 96,
        "cross_attention_dim": 1024,
        # heads of each block, all of 64 numbers
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    vae=SD15.vae | {"sample_size": 768},
    text_encoder={
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        # of 24: the row that a text is given by is that of the last but one
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "projection_dim": 512,
        "hidden_act": "gelu",
        # not the tokenizer's: so they stand in the published configuration
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    },
    pads=("!",),
    text_prefixes=("cond_stage_model.model.",),
    scheduler="DDIMScheduler",
    noise=SCHEDULER | {"prediction_type": "v_prediction", "clip_sample": False},
)
"""Stable Diffusion 2.1 at 768x768: UNet of 865,910,724 parameters, which predicts velocities (arXiv
2202.00512); text encoder of OpenCLIP ViT-H/14 without its last layer."""

SDXL_BASE = Architecture(
    family=SDXL,
    unet={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "norm_num_groups": 32,
        "use_linear_projection": True,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    vae=SD15.vae | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    text_encoder=SD15.text_encoder | {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    text_encoder_2={
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    },
    pads=(END, "!"),
    text_prefixes=("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
    scheduler="EulerDiscreteScheduler",
    noise=SCHEDULER | {"interpolation_type": "linear", "use_karras_sigmas": False},
)
"""Stable Diffusion XL base 1.0 at 1024x1024: UNet of 2,567,463,684 parameters, 60 cross-attention
layers and ten in the middle; text encoders of CLIP ViT-L/14 and OpenCLIP ViT-bigG/14."""

ARCHITECTURES: dict[str, Architecture] = {
    "random:sd15": SD15,
    "random:sd21": SD21,
    "random:sdxl": SDXL_BASE,
}
