"""A pipeline of SD 1.5's layout with random weights, small enough to be built in every test run."""

from __future__ import annotations

import functools
from dataclasses import replace

from ovamgen.diffusion.architectures import SD15

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


@functools.cache
def small_pipeline():
    """The pipeline, in float32 on one CPU thread."""
    import torch

    from ovamgen.diffusion.random_weights import build_pipeline

    torch.set_num_threads(1)
    pipe = build_pipeline(SMALL, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe
