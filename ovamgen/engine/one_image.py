"""The command itself: one drawing, everything that listens to it, and what is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from ovamgen.attribution.chosen_attention import check_chosen, chosen
from ovamgen.attribution.self_attention import (
    AttentionAffinity,
    ReceivedAttention,
    self_attention_sink,
)
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.attribution.trained_head import open_head
from ovamgen.config import MaskConfig, RunConfig, SynthesisConfig, check_method
from ovamgen.diffusion.drawing import Drawn
from ovamgen.diffusion.pipeline import LoadedPipeline, load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.array_files import Array, array_names, read_array
from ovamgen.engine.engine import factor_of
from ovamgen.engine.head_checks import check_ends_at_the_image
from ovamgen.engine.head_listener import listen_with_head
from ovamgen.engine.listeners import Answer, Asked, Listener, listen
from ovamgen.engine.opened_model import PipelineAttention, use_repeatable_arithmetic
from ovamgen.engine.overlay import Panel, write_overlay
from ovamgen.errors import ConfigError
from ovamgen.storage.whole_files import check_place, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """What was written."""

    out: Path
    overlay: Path | None
    shapes: dict[str, tuple[int, ...]]
    """Shape of each array of the file, by name."""
    maximum: int
    """The largest value that a map could have: calls · heads summed over the layers for ``ovam``,
    heads summed over the layers for ``attn2mask``, calls for ``daam`` (before its bicubic), 1 for
    those of a head."""
    meaning: str
    """What the maps are, for people."""

    def lines(self) -> list[str]:
        """As text for people."""
        text = [f"{self.out} (maps are {self.meaning})"]
        text += [f"  {name:<14} {shape}" for name, shape in self.shapes.items()]
        return text + ([str(self.overlay)] if self.overlay else [])


def attribute(
    config: RunConfig,
    *,
    prompt: str,
    out: str | Path,
    seed: int = 0,
    texts: Sequence[str] = (),
    latents: str | Path | None = None,
    token_pairs: str | Path | None = None,
    tokens: str | Path | None = None,
    overlay: str | Path | None = None,
) -> Attributed:
    """Draws one image and writes its heatmaps as the method makes them, before any normalisation.

    The file holds float32 arrays: ``image`` (H, W, 3) in [0, 1]; for each text ``text_0``,
    ``text_1``, ... (L, h, w), rows of `<SoT>` and `<EoT>` included; ``token_pairs`` (N, 2, h, w);
    with a bank ``bank`` (K, 2, h, w) and the names ``bank_classes`` (K,). Where nothing is asked
    for, the prompt itself is ``text_0``.

    ``ovam`` and ``daam-ovam`` sum over calls, heads and layers (methods 2.2), ``attn2mask`` over
    heads and layers of one call (4). ``daam`` takes no text but the prompt: ``text_0`` is its
    global heat map (1.2); of a bank it takes the classes that the prompt names, ``bank``
    (K, 1, h, w) without a background; pairs that lie beside the latents are left alone.
    ``grounded`` and ``datasetdm`` have one probability map (1, H, W) for each text, pair and class
    of a bank, of the image's size (5 and 6).

    With ``masks.self_attention`` affinity or iterated all maps are refined; with received or
    constant ``self_attention`` (h, w) is the factor that normalised maps would be multiplied by.

    Args:
        config: the sections model, synthesis, attribution (method and branch), masks (the
            self-attention fields) and runtime count.
        prompt: the generation prompt.
        out: the ``.npz`` to write; it is there whole or not at all.
        seed: of the initial noise, where no latents are given.
        texts: attribution texts; they need not be in the prompt, except for ``daam``.
        latents: an ``.npz`` with ``latents`` (1, channels, h, w): noise to start from, and the
            image's size. Where it has ``token_pairs`` too and no other file is named, they are
            used.
        token_pairs: an ``.npz`` with ``token_pairs`` (N, 2, ctx): [background row, class row].
        tokens: a token bank, all of whose classes are attributed.
        overlay: a PNG to write, the image beside each map.

    Raises:
        ConfigError: a file that cannot be used, sizes or widths that do not fit, no such model.
        MethodError: no such method, a text that is too long, or one that the method has no map of.
        SampleError: the image is not finite.
    """
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be in [0, 2**63), got {seed}")
    check_method(config.attribution.method)
    noise = None if latents is None else read_array(latents, "latents", (1, None, None, None))
    asked = Asked(
        prompt=prompt,
        texts=tuple(texts),
        pairs=_given_pairs(latents, token_pairs),
        pairs_named=token_pairs is not None,
        bank=None if tokens is None else TokenBank.load(tokens),
        phrases=config.classes.phrase_by_name,
    )
    for place in (out, overlay):
        if place is not None:
            check_place(Path(place))
    head = open_head(config)
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    loaded = load_pipeline(config.model)
    settings = config.synthesis.model_copy(update={"safety": "off"})
    if noise is not None:
        settings = _sized_by(noise, settings, loaded)
    attention = PipelineAttention(loaded)
    beside = self_attention_sink(config.masks)
    if beside is not None:
        attention.check_self_attention()
    method = config.attribution.method
    if head is None:
        listeners = listen(method, attention, asked)
    else:
        check_ends_at_the_image(loaded, settings, config.attribution.probe)
        listeners = [listen_with_head(method, attention, asked, head)]
    synthesiser = Synthesiser(loaded, settings)
    fed = [chosen(listener.sink, config.attribution) for listener in listeners]
    sinks = [*fed, *([beside] if beside else [])]
    drawn = synthesiser.draw(
        [prompt],
        [seed],
        listeners=[(sink, config.attribution.half) for sink in sinks],
        latents=None if noise is None else torch.from_numpy(noise),
        probe=config.attribution.probe,
    )
    if drawn.errors[0] is not None:
        raise drawn.errors[0]
    for one in fed:
        check_chosen(one)
    answers = [answer for listener in listeners for answer in listener.answers()]
    arrays, panels = _arrays(drawn, answers, beside, config.masks)
    if asked.bank is not None:
        arrays["bank_classes"] = np.array(listeners[-1].names)
    return _write(Path(out), overlay, prompt, arrays, panels, listeners[0])


def _arrays(
    drawn: Drawn,
    answers: Sequence[Answer],
    beside: ReceivedAttention | AttentionAffinity | None,
    masks: MaskConfig,
) -> tuple[dict[str, Any], list[Panel]]:
    arrays: dict[str, Any] = {"image": drawn.pixels[0]}
    panels: list[Panel] = []
    for answer in answers:
        maps = answer.maps
        if isinstance(beside, AttentionAffinity):
            maps = beside.refine(maps[None])[0]
        values = maps.cpu().numpy()
        arrays[answer.array] = values.reshape(*answer.shape, *values.shape[1:])
        shown = zip(answer.labels, values, strict=True)
        panels += [Panel(label, row) for label, row in shown if label is not None]
    factor = _factor(beside, masks, tuple(answers[0].maps.shape[1:]))
    if factor is not None:
        arrays["self_attention"] = factor.cpu().numpy()
    return arrays, panels


def _factor(
    beside: ReceivedAttention | AttentionAffinity | None,
    masks: MaskConfig,
    size: tuple[int, ...],
) -> Float32[torch.Tensor, "h w"] | None:
    if isinstance(beside, ReceivedAttention):
        return factor_of(beside.result(), masks)[0]
    # nothing received is the lower end
    return (
        factor_of(torch.zeros(1, *size), masks)[0] if masks.self_attention == "constant" else None
    )


def _write(
    out: Path,
    overlay: str | Path | None,
    prompt: str,
    arrays: dict[str, Any],
    panels: Sequence[Panel],
    listener: Listener,
) -> Attributed:
    write_whole(out, lambda file: np.savez(file, **arrays))
    if overlay is not None:
        write_whole(
            Path(overlay),
            lambda file: write_overlay(file, prompt, arrays["image"], panels, listener.maximum()),
        )
    return Attributed(
        out=out,
        overlay=None if overlay is None else Path(overlay),
        shapes={name: array.shape for name, array in arrays.items()},
        maximum=listener.maximum(),
        meaning=listener.meaning(),
    )


def _given_pairs(latents: str | Path | None, token_pairs: str | Path | None) -> Array | None:
    path = token_pairs
    if path is None and latents is not None and "token_pairs" in array_names(latents):
        path = latents
    return None if path is None else read_array(path, "token_pairs", (None, 2, None))


def _sized_by(noise: Array, settings: SynthesisConfig, loaded: LoadedPipeline) -> SynthesisConfig:
    """The settings with the image size that the latents have."""
    factor = loaded.info.vae_scale_factor
    channels = int(loaded.pipe.unet.config.in_channels)
    if noise.shape[1] != channels:
        raise ConfigError(f"latents must have {channels} channels, got {noise.shape[1]}")
    size = {"height": noise.shape[2] * factor, "width": noise.shape[3] * factor}
    for name, pixels in size.items():
        asked = getattr(settings, name)
        if asked not in (None, pixels):
            raise ConfigError(
                f"the latents are for a {name} of {pixels} pixels, but {asked} was asked for: "
                f"leave {name} away"
            )
    return settings.model_copy(update=size)
