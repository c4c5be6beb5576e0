"""The networks of the embedded model, built and initialised for training, and its noise schedule.

Block types are those of Stable Diffusion 1.5, so the same recorders read both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from transformers import CLIPTextConfig, CLIPTextModel

from recipes.mini.backgrounds import WORDS as BACKGROUND_WORDS
from recipes.mini.captions import FILLERS, head_word, names_of
from recipes.mini.catalogue import CLASSES
from recipes.mini.latents import CELLS, CHANNELS
from recipes.mini.tokenizer import MAX_LENGTH, token_of

TRAIN_TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012
"""Stable Diffusion's schedule, ``scaled_linear``."""
_FILLER_SHARE = 0.1
"""Words without a meaning of their own start near zero, and so near each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Widths of the networks."""

    channels: int = CHANNELS
    """Of the latents."""
    unet_widths: tuple[int, ...] = (64, 128, 160)
    head_width: int = 32
    norm_groups: int = 16
    text_width: int = 128
    text_layers: int = 2
    text_heads: int = 4


@dataclass(slots=True)
class Networks:
    """The two networks that are trained together."""

    unet: Any
    """diffusers' ``UNet2DConditionModel``."""
    text_encoder: Any
    """transformers' ``CLIPTextModel``."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """All parameters, the UNet's first, in a fixed order."""
        return [*self.unet.parameters(), *self.text_encoder.parameters()]

    def to(self, device: torch.device) -> Networks:
        """The same networks on the device, the UNet's images in the order that is fast there."""
        self.unet.to(device, memory_format=image_order(device))
        self.text_encoder.to(device)
        return self

    def train(self, mode: bool = True) -> None:
        """Switches both networks to training, or to evaluation."""
        self.unet.train(mode)
        self.text_encoder.train(mode)


def build_networks(shape: ModelShape, tokenizer: Any, seed: int) -> Networks:
    """Untrained networks, on the CPU in float32; a function of the arguments.

    Words of one class start with one embedding, and those of different classes and backgrounds
    with orthogonal ones: a small text encoder took longest to tell them apart.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=CELLS,
            in_channels=shape.channels,
            out_channels=shape.channels,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=shape.unet_widths,
            layers_per_block=1,
            cross_attention_dim=shape.text_width,
            # diffusers' name for the number of heads of each block.
            attention_head_dim=tuple(width // shape.head_width for width in shape.unet_widths),
            norm_num_groups=shape.norm_groups,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=shape.text_width,
                projection_dim=shape.text_width,
                intermediate_size=3 * shape.text_width,
                num_hidden_layers=shape.text_layers,
                num_attention_heads=shape.text_heads,
                max_position_embeddings=MAX_LENGTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        with torch.no_grad():
            _initialise_unet(unet)
            _initialise_embeddings(text_encoder, tokenizer)
    return Networks(unet=unet, text_encoder=text_encoder)


def autocast(device: torch.device) -> torch.autocast:
    """Arithmetic in bfloat16, where the device has it: without instructions for it a CPU is slower.

    A CPU with AVX2 took nine times as long for a training step in bfloat16 as in float32.
    """
    enabled = device.type != "cpu" or cpu_computes_bfloat16()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


@cache
def cpu_computes_bfloat16() -> bool:
    """Whether this machine's processor has instructions for bfloat16."""
    facts = Path("/proc/cpuinfo")
    flags = set(facts.read_text().split()) if facts.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def image_order(device: torch.device) -> torch.memory_format:
    """The memory format of images that convolutions are fast in: channels last on GPUs."""
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last


def alphas_cumprod(device: torch.device) -> Float[torch.Tensor, " timesteps"]:
    """Share of the signal's variance at each of the 1000 timesteps, float32."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_TIMESTEPS, dtype=torch.float64)
    return torch.cumprod(1 - betas.square(), 0).float().to(device)


def scheduler_config() -> dict[str, Any]:
    """The keyword arguments that all diffusers schedulers of this model share."""
    return {
        "num_train_timesteps": TRAIN_TIMESTEPS,
        "beta_start": BETA_START,
        "beta_end": BETA_END,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }


def _initialise_unet(unet: Any) -> None:
    for name, module in unet.named_modules():
        # Residual branches begin nearly closed, so that the first steps train one shallow network.
        if name.endswith(("conv2", "proj_out")) or name == "conv_out":
            module.weight.mul_(0.15)
        # Cross-attention starts almost flat; wider logits let words differ from the first step.
        if name.endswith(("attn2.to_q", "attn2.to_k")):
            module.weight.mul_(1.7)


def _initialise_embeddings(text_encoder: Any, tokenizer: Any) -> None:
    weight = text_encoder.get_input_embeddings().weight
    weight.normal_()
    for name, parameter in text_encoder.named_parameters():
        if name.endswith("position_embedding.weight"):
            parameter.normal_(0, 0.15)
    fillers = [token_of(tokenizer, word) for word in FILLERS] + [tokenizer.unk_token_id]
    weight[fillers] *= _FILLER_SHARE
    width = weight.shape[1]
    axes = torch.linalg.qr(torch.randn(width, width))[0] * width**0.5
    meanings = [tuple(head_word(name) for name in names_of(entry)) for entry in CLASSES]
    meanings += [(head_word(phrase),) for phrase in BACKGROUND_WORDS.values()]
    for axis, words in zip(axes, meanings, strict=False):
        for word in words:
            weight[token_of(tokenizer, word)] = axis
