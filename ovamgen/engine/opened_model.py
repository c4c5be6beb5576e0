"""A pipeline as attribution sees it, and opened with the tokens and the head of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ovamgen.attribution.targets import AttributedClasses, ClassRows
from ovamgen.attribution.trained_head import HeadUse, open_head
from ovamgen.config import RunConfig
from ovamgen.diffusion.features import feature_levels
from ovamgen.diffusion.pipeline import LoadedPipeline, load_pipeline
from ovamgen.diffusion.recorder import (
    CrossAttentionLayer,
    cross_attention_layers,
    self_attention_layers,
)
from ovamgen.diffusion.text import TextRows, encode_text
from ovamgen.engine.head_checks import check_ends_at_the_image
from ovamgen.engine.token_choice import open_tokens


@dataclass(frozen=True, slots=True, eq=False)
class PipelineAttention:
    """A pipeline as attribution sees it: its cross-attention layers and its text encoder."""

    loaded: LoadedPipeline

    @property
    def name(self) -> str:
        """The model as it was asked for."""
        return self.loaded.info.model

    @property
    def context_width(self) -> int:
        """Width of a row of the text encoder (ctx)."""
        return self.loaded.info.context_width

    @property
    def cell_px(self) -> int:
        """Pixels of a latent cell's side."""
        return self.loaded.info.vae_scale_factor

    def feature_channels(self, *, before_upsampling: bool, with_attention: bool) -> tuple[int, ...]:
        """Channels of each level's block features, coarsest first, as a head reads them.

        Raises:
            MethodError: the UNet has no such features.
        """
        pipe = self.loaded.pipe
        levels = feature_levels(
            pipe.unet, before_upsampling=before_upsampling, with_attention=with_attention
        )
        return tuple(level.channels(pipe.tokenizer.model_max_length) for level in levels)

    @property
    def layers(self) -> list[CrossAttentionLayer]:
        """The layers in the recorder's order.

        Raises:
            MethodError: the UNet has no cross-attention.
        """
        return cross_attention_layers(self.loaded.pipe.unet)

    def check_self_attention(self) -> None:
        """Checks that the self-attention beside those layers can be recorded.

        Raises:
            MethodError: it cannot; the block is named.
        """
        self_attention_layers(self.loaded.pipe.unet)

    def encode(self, text: str, *, padded: bool = False, cut: bool = False) -> TextRows:
        """A text by the pipeline's own encoder (methods 2.3).

        Raises:
            MethodError: the text is too long and may not be cut.
        """
        return encode_text(self.loaded.pipe, text, padded=padded, cut=cut)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OpenedAttribution:
    """A loaded model with what a configuration attributes on it."""

    config: RunConfig
    """The configuration, its tokens chosen and their thresholds known."""
    attention: PipelineAttention
    attributed: AttributedClasses
    """What stands for each class of the configuration, in their order."""
    head: HeadUse | None
    tokens_digest: str
    """Digest (hex) of the token bank, "" where none was read."""


def open_attribution(config: RunConfig, *, safety: bool = False) -> OpenedAttribution:
    """The model of a configuration on its device, with its tokens and its head.

    Sets the threads of CPU arithmetic for the process (`use_repeatable_arithmetic`).

    Args:
        config: resolved.
        safety: load the safety checker as well.

    Raises:
        ConfigError: no such model, device, token bank or head, or they do not fit.
        MethodError: the model has no cross-attention.
    """
    config, bank = open_tokens(config)
    rows = ClassRows(config.attribution.token_source, bank)
    head = open_head(config)
    if head is not None:
        head.check_classes(tuple(entry.name for entry in config.classes.classes))
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    loaded = load_pipeline(config.model, safety=safety)
    attention = PipelineAttention(loaded)
    if head is not None:
        check_ends_at_the_image(loaded, config.synthesis, config.attribution.probe)
    return OpenedAttribution(
        config=config,
        attention=attention,
        attributed=rows.targets(config.classes.classes, attention),
        head=head,
        tokens_digest=rows.digest,
    )


def use_repeatable_arithmetic(cpu_threads: int | None) -> None:
    """Sets for this process what equal bits depend on beside versions and device.

    Args:
        cpu_threads: threads of CPU arithmetic; other numbers of them sum in another order. A
            resolved configuration has a number.
    """
    if cpu_threads is not None:
        torch.set_num_threads(cpu_threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
