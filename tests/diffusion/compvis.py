"""Weights of a pipeline in one file, as CompVis and Stability released them: the way back from
diffusers' names, written from the published layout and not from diffusers' converter."""

from __future__ import annotations

import re

import torch
from safetensors.torch import save_file

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "encoder.layers.": "transformer.resblocks.",
    "final_layer_norm": "ln_final",
    "layer_norm": "ln_",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.": "attn.",
}


def _renamed(name, table):
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def unet_name(name, with_attention):
    """``with_attention``: numbers of the up blocks that have transformers."""
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
    if found:
        side, block, kind, layer, rest = found.groups()
        block, layer = int(block), int(layer)
        if kind == "downsamplers":
            return f"input_blocks.{3 * block + 3}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            place = 2 if block in with_attention else 1
            return f"output_blocks.{3 * block + 2}.{place}.{rest}"
        number = 3 * block + layer + (side == "down")
        start = f"{'input' if side == 'down' else 'output'}_blocks.{number}"
        return f"{start}.0.{_renamed(rest, _RESNET)}" if kind == "resnets" else f"{start}.1.{rest}"
    found = re.fullmatch(r"mid_block\.(\w+)\.(\d+)\.(.+)", name)
    if found:
        kind, layer, rest = found.groups()
        if kind == "attentions":
            return f"middle_block.1.{rest}"
        return f"middle_block.{2 * int(layer)}.{_renamed(rest, _RESNET)}"
    part, _, leaf = name.rpartition(".")
    return f"{_UNET[part]}.{leaf}"


def _vae_name(name, blocks):
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    last = blocks - 1
    name = re.sub(
        r"up_blocks\.(\d+)\.resnets", lambda found: f"up.{last - int(found[1])}.block", name
    )
    name = re.sub(
        r"up_blocks\.(\d+)\.upsamplers\.0",
        lambda found: f"up.{last - int(found[1])}.upsample",
        name,
    )
    name = name.replace("mid_block.attentions.0", "mid.attn_1")
    name = name.replace("mid_block.resnets.0", "mid.block_1")
    name = name.replace("mid_block.resnets.1", "mid.block_2")
    table = {"group_norm": "norm", "to_out.0": "proj_out", "conv_shortcut": "nin_shortcut"}
    table |= {f"attn_1.to_{letter}": f"attn_1.{letter}" for letter in "qkv"}
    return _renamed(name, table | {"conv_norm_out": "norm_out"})


def _open_clip(weights):
    found = {}
    for name, tensor in weights.items():
        stacked = re.fullmatch(r"(.+)\.self_attn\.q_proj\.(weight|bias)", name)
        if stacked:
            layer, leaf = stacked.groups()
            parts = [weights[f"{layer}.self_attn.{letter}_proj.{leaf}"] for letter in "qkv"]
            found[_renamed(f"{layer}.self_attn.in_proj_{leaf}", _OPEN_CLIP)] = torch.cat(parts)
        elif name == "text_projection.weight":
            found["text_projection"] = tensor.T.contiguous()
        elif not re.search(r"self_attn\.[kv]_proj", name):
            found[_renamed(name, _OPEN_CLIP)] = tensor
    return found


def blocks_with_attention(unet):
    """Numbers of the up blocks that have transformers."""
    return {number for number, kind in enumerate(unet.config.up_block_types) if "Cross" in kind}


def single_file_tensors(pipe, prefixes):
    """All weights under the names of the first releases.

    ``prefixes``: of each text encoder, as ``Architecture.text_prefixes`` has them.
    """
    with_attention = blocks_with_attention(pipe.unet)
    tensors = {
        f"model.diffusion_model.{unet_name(name, with_attention)}": tensor
        for name, tensor in pipe.unet.state_dict().items()
    }
    blocks = len(pipe.vae.config.block_out_channels)
    for name, tensor in pipe.vae.state_dict().items():
        new = _vae_name(name, blocks)
        # attention is made of convolutions of 1 x 1 there
        is_convolution = ".attn_1." in new and new.endswith("weight") and ".norm." not in new
        tensors[f"first_stage_model.{new}"] = tensor[:, :, None, None] if is_convolution else tensor
    encoders = [pipe.text_encoder, getattr(pipe, "text_encoder_2", None)]
    for encoder, prefix in zip(encoders, prefixes, strict=False):
        weights = {
            name.removeprefix("text_model."): tensor
            for name, tensor in encoder.state_dict().items()
        }
        if prefix.endswith(".transformer."):
            weights = {f"text_model.{name}": tensor for name, tensor in weights.items()}
            # a table of positions that transformers kept with the weights in those days
            positions = torch.arange(encoder.config.max_position_embeddings)[None]
            weights["text_model.embeddings.position_ids"] = positions
        else:
            weights = _open_clip(weights) | {"logit_scale": torch.tensor(4.6)}
        tensors |= {prefix + name: tensor for name, tensor in weights.items()}
    return tensors


def save_single_file(pipe, prefixes, path, *, metadata=None):
    """Writes them."""
    tensors = single_file_tensors(pipe, prefixes)
    save_file({name: t.contiguous().clone() for name, t in tensors.items()}, path, metadata)
