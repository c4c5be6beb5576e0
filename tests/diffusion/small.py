"""Pipelines of the layouts of SD 1.5, 2.1 and XL with random weights, small enough to be built in
every test run."""

from __future__ import annotations

import functools
from dataclasses import replace

from ovamgen.diffusion.architectures import SD15, SD21, SDXL_BASE

SMALL = replace(
    SD15,
    unet=SD15.unet
    | {
        "sample_size": 16,
        "block_out_channels": (24, 24, 40, 40),
        "cross_attention_dim": 32,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    },
    vae=SD15.vae
    | {
        "sample_size": 128,
        "block_out_channels": (16, 16, 24, 24),
        "layers_per_block": 1,
        "norm_num_groups": 8,
    },
    text_encoder=SD15.text_encoder
    | {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 32,
    },
)


SMALL_SD21 = replace(
    SD21,
    unet=SD21.unet
    | {
        "sample_size": 16,
        "block_out_channels": (16, 16, 32, 32),
        "cross_attention_dim": 48,
        "attention_head_dim": (1, 2, 4, 4),
        "norm_num_groups": 8,
    },
    vae=SMALL.vae,
    text_encoder=SD21.text_encoder
    | {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 16,
    },
)
"""Heads of each block, linear projections, velocities, as SD 2.1 has them."""

SMALL_SDXL = replace(
    SDXL_BASE,
    unet=SDXL_BASE.unet
    | {
        "sample_size": 16,
        "block_out_channels": (8, 16, 32),
        "cross_attention_dim": 80,
        "attention_head_dim": (1, 2, 4),
        "transformer_layers_per_block": (1, 2, 3),
        "norm_num_groups": 8,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 24,
    },
    vae=SMALL.vae | {"scaling_factor": 0.13025, "force_upcast": True},
    text_encoder=SDXL_BASE.text_encoder
    | {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "projection_dim": 32,
    },
    text_encoder_2=SDXL_BASE.text_encoder_2
    | {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "projection_dim": 24,
    },
)
"""Two text encoders of different width, transformers of several layers, size ids, as XL has."""

FAMILIES = {"sd15": SMALL, "sd21": SMALL_SD21, "sdxl": SMALL_SDXL}


@functools.cache
def small_pipeline(name="sd15"):
    """The pipeline of one of `FAMILIES`, in float32 on one CPU thread."""
    import torch

    from ovamgen.diffusion.random_weights import build_pipeline

    torch.set_num_threads(1)
    pipe = build_pipeline(FAMILIES[name], dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@functools.cache
def small_model(name):
    """The same with what it says of itself."""
    from ovamgen.diffusion.pipeline import LoadedPipeline, digest_weights
    from ovamgen.records import ModelInfo

    pipe, facts = small_pipeline(name), FAMILIES[name].facts(f"small:{name}")
    info = ModelInfo(
        model=facts.model,
        revision="",
        digest=digest_weights(pipe),
        height=facts.height,
        width=facts.width,
        vae_scale_factor=facts.vae_scale_factor,
        context_width=facts.context_width,
        cross_attention_layers=facts.cross_attention_layers,
        trained=False,
    )
    return LoadedPipeline(pipe=pipe, info=info)
