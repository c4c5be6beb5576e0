"""What can be known of a pipeline from its configuration files alone; no torch, no diffusers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovamgen.errors import ConfigError

_MOST_TIMES_OWN = 8


CLIP_VIT_L14: Mapping[str, int] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
}
"""What tells the text encoder of Stable Diffusion 1.x from others, in ``config.json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a pipeline will be once loaded; None where only loading can tell (hub, not cached)."""

    model: str
    """As it was asked for."""
    context_width: int | None = None
    """Width of one row of the text encoder's output (ctx)."""
    height: int | None = None
    """The model's own image height in pixels."""
    width: int | None = None
    vae_scale_factor: int | None = None
    """Pixels of a latent cell's side."""
    cross_attention_layers: int | None = None
    """Layers that maps are read from; the middle one is left out."""
    safety_checker: bool | None = None
    """A safety checker comes with the model."""
    clip_vit_l14: bool | None = None
    """Its one text encoder is of the form of CLIP ViT-L/14, as in Stable Diffusion 1.x."""
    size_ids: bool | None = None
    """Its UNet is told the sizes of the picture, as in Stable Diffusion XL."""

    def check_size(self, height: int | None, width: int | None) -> None:
        """Checks that images of this size can be meant; the model's own where None.

        Raises:
            ConfigError: far more pixels than the model was made for: memory would not do.
        """
        for name, size, own in (("height", height, self.height), ("width", width, self.width)):
            if size is not None and own is not None and size > _MOST_TIMES_OWN * own:
                raise ConfigError(
                    f"synthesis.{name} must be at most {_MOST_TIMES_OWN * own} pixels for "
                    f"{self.model}, which was made for {self.height}x{self.width}, got {size}"
                )


def check_size_ids(model: str, taken: bool | None) -> None:
    """Checks that a model takes the size ids that were asked for.

    Args:
        model: as it was asked for.
        taken: whether it does; None where only loading can tell.

    Raises:
        ConfigError: it does not.
    """
    if taken is False:
        raise ConfigError(
            "synthesis.original_size and synthesis.crop are what Stable Diffusion XL is told of "
            f"sizes, {model} is told nothing of them: leave them away"
        )


def facts_of(
    model: str,
    unet: Mapping[str, Any],
    vae: Mapping[str, Any],
    texts: Sequence[Mapping[str, Any]],
    *,
    safety_checker: bool,
) -> ModelFacts:
    """The facts that the configurations of UNet, VAE and text encoders give.

    Args:
        model: the model as it was asked for.
        unet: content of ``unet/config.json``.
        vae: content of ``vae/config.json``.
        texts: content of the ``config.json`` of each text encoder.
        safety_checker: whether a checker comes with the model.

    Raises:
        KeyError: a configuration lacks a key that decides a fact.
        TypeError: a value is of another kind than diffusers writes.
    """
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    height, width = _pair(unet["sample_size"])
    return ModelFacts(
        model=model,
        context_width=int(unet["cross_attention_dim"]),
        height=height * factor,
        width=width * factor,
        vae_scale_factor=factor,
        cross_attention_layers=_count_layers(unet),
        safety_checker=safety_checker,
        # the first of XL's two is of that form as well, but no row is its output alone
        clip_vit_l14=len(texts) == 1 and is_clip_vit_l14(texts[0]),
        size_ids=unet.get("addition_embed_type") == "text_time",
    )


def is_clip_vit_l14(text: Mapping[str, Any]) -> bool:
    """Whether the configuration of a text encoder is of the form of CLIP ViT-L/14."""
    return all(text.get(name) == value for name, value in CLIP_VIT_L14.items())


def _count_layers(unet: Mapping[str, Any]) -> int:
    down, up = unet["down_block_types"], unet["up_block_types"]
    resnets = _for_each(unet.get("layers_per_block", 2), len(down))
    transformers = _for_each(unet.get("transformer_layers_per_block", 1), len(down))
    going_up = unet.get("reverse_transformer_layers_per_block") or list(reversed(transformers))
    blocks = zip(down, resnets, transformers, strict=True)
    count = sum(_depth(deep, layers) for kind, layers, deep in blocks if "CrossAttn" in kind)
    # an up block has one resnet, and so one transformer, more than its mirror image
    mirrored = zip(up, reversed(resnets), going_up, strict=True)
    return count + sum(
        _depth(deep, layers + 1) for kind, layers, deep in mirrored if "CrossAttn" in kind
    )


def _depth(deep: Any, transformers: int) -> int:
    """Layers of a block, whose transformers are all of one depth or each of its own."""
    return sum(map(int, deep)) if isinstance(deep, list | tuple) else int(deep) * transformers


def _for_each(value: Any, blocks: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * blocks


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, list | tuple):
        height, width = value
        return int(height), int(width)
    return int(value), int(value)
