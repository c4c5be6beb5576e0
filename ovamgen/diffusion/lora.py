"""LoRA files, checked before anything heavy is imported: what they are, and for which model.

Of the adapters that go by such names, LoRA itself is read (pairs of matrices, of linear layers and
convolutions), under the names that diffusers, PEFT and kohya-ss give them. No torch, no diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ovamgen.config import Lora
from ovamgen.diffusion.facts import ModelFacts
from ovamgen.diffusion.single_file import UNET
from ovamgen.diffusion.weight_file import WeightFile, read_header
from ovamgen.errors import ConfigError

FILE_IN_FOLDER = "pytorch_lora_weights.safetensors"
"""As diffusers' training scripts name it."""

_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_mid": "LoCon with a third matrix",
    "oft_": "OFT",
}
"""Adapters by a part of the names of their tensors."""

_TRANSFORMERS = ("transformer.", "lora_transformer_", "joint_blocks", "double_blocks")
_TEXT_KEYS = re.compile(
    r"attn2[._](?:processor\.)?to_[kv](?:_lora\.down|\.lora\.down|\.lora_down|\.lora_A)\."
)
"""The matrix of a layer that rows of text come into; its columns are those of a row."""


def lora_file(lora: Lora) -> Path:
    """The file of a LoRA, which may be named by its folder."""
    path = Path(lora.path).expanduser()
    return path / FILE_IN_FOLDER if path.is_dir() else path


def check_loras(loras: Sequence[Lora], facts: ModelFacts) -> None:
    """Checks of each file that it is a LoRA, and of a model with such rows of text.

    Args:
        loras: as they were asked for.
        facts: of the model; where it is not here yet, widths are not compared.

    Raises:
        ConfigError: names the file and what is wrong with it.
    """
    for lora in loras:
        weights = read_header(lora_file(lora), "LoRA")
        _check_kind(weights)
        weights.check_numbers("")
        _check_width(weights, facts)


def _check_kind(weights: WeightFile) -> None:
    for part, kind in _OTHER_KINDS.items():
        if any(part in name for name in weights.shapes):
            raise ConfigError(
                f"{weights.place} is a {kind}: of adapters, LoRA alone can be fused; have it "
                "converted to a LoRA, or merged into a model"
            )
    if weights.has(UNET):
        raise ConfigError(
            f"{weights.place} is a whole model: give it with --model, and LoRAs with model.loras"
        )
    names = [name for name in weights.shapes if "lora" in name]
    if not names:
        raise ConfigError(
            f"{weights.place} is no LoRA: the names of its tensors must have 'lora' in them, got "
            f"{next(iter(weights.shapes), 'no tensor')!r:.80}"
        )
    if any(part in name for name in names for part in _TRANSFORMERS):
        raise ConfigError(
            f"{weights.place} is of a model that draws with a transformer (Stable Diffusion 3, "
            "FLUX): LoRAs of Stable Diffusion 1.x, 2.x and XL can be fused, each into its own kind"
        )


def _check_width(weights: WeightFile, facts: ModelFacts) -> None:
    for name, shape in weights.shapes.items():
        if facts.context_width is None or len(shape) < 2 or not _TEXT_KEYS.search(name):
            continue
        if shape[1] != facts.context_width:
            raise ConfigError(
                f"{weights.place} is of another family than {facts.model}: it takes rows of text "
                f"of width {shape[1]}, the model's have {facts.context_width} (768 in 1.x, 1024 in "
                "2.x, 2048 in XL)"
            )
