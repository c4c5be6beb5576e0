"""Texts to rows of the text encoder, without padding, each row with the sub-token it stands for.

OVAM encodes attribution texts unpadded (methods 2.3): CLIP is causal, so the rows are those of the
padded encoding, but a softmax over padding would change the maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from ovamgen.diffusion.families import FAMILIES
from ovamgen.errors import MethodError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextRows:
    """A text as the rows that attribution works with, `<SoT>` first and `<EoT>` after the words."""

    text: str
    rows: Float32[Tensor, "L ctx"]
    """What the UNet is given of the text, on the encoder's device: the text encoder's output, final
    layer norm applied; for XL the outputs of both encoders side by side, of the last layer but one.
    """
    token_ids: tuple[int, ...]
    words: tuple[str, ...]
    """The sub-token of each row in readable form: ``<SoT>``, ``aerop``, ``lane``, ``<EoT>``."""

    def last_subtoken(self) -> int:
        """Row of the last sub-token before `<EoT>` (methods 2.4: channel -2).

        Raises:
            MethodError: the text has no words.
        """
        row = self.words.index("<EoT>") - 1
        if row < 1:
            raise MethodError(f"a phrase needs at least one word, got {self.text!r}")
        return row


def encode_text(pipe: Any, text: str, *, padded: bool = False, cut: bool = False) -> TextRows:
    """The rows of a text by the pipeline's own tokenizers and text encoders (methods 2.3).

    Args:
        pipe: a StableDiffusionPipeline or StableDiffusionXLPipeline.
        text: any text that fits the encoders; upper and lower case are one to CLIP.
        padded: fill up to the tokenizer's length with padding rows, as DAAM needs it (1.1).
        cut: leave off what exceeds that length, as drawing does, rather than refuse it.

    Raises:
        MethodError: the text is longer than the text encoders can read, and may not be cut; or two
            tokenizers cut it into other sub-tokens, so that no row would stand for one of them.
    """
    family = FAMILIES[type(pipe).__name__]
    tokenizers = [getattr(pipe, name) for name in family.tokenizers]
    tokenizer = tokenizers[0]
    cuts = [list(one(text, verbose=False, truncation=cut).input_ids) for one in tokenizers]
    ids = cuts[0]
    longest = tokenizer.model_max_length
    if len(ids) > longest:
        raise MethodError(
            f"an attribution text may have {longest - 2} tokens, got {len(ids) - 2}: "
            f"shorten {text[:60]!r}"
        )
    if any(other != ids for other in cuts):
        raise MethodError(
            f"the model's tokenizers cut {text[:60]!r} into other sub-tokens: a model with one "
            "vocabulary for both of its text encoders is needed"
        )
    words = ["<SoT>", *(_readable(tokenizer, index) for index in ids[1:-1]), "<EoT>"]
    missing = longest - len(ids) if padded else 0
    words += ["<pad>"] * missing
    rows = []
    for one, name in zip(tokenizers, family.text_encoders, strict=True):
        encoder = getattr(pipe, name)
        given = torch.tensor([ids + [one.pad_token_id] * missing], device=encoder.device)
        with torch.no_grad():
            output = encoder(given, output_hidden_states=not family.last_layer)
        last = output.last_hidden_state if family.last_layer else output.hidden_states[-2]
        rows.append(last[0].float())
    return TextRows(
        text=text,
        rows=rows[0] if len(rows) == 1 else torch.cat(rows, dim=-1),
        token_ids=(*ids, *[tokenizer.pad_token_id] * missing),
        words=tuple(words),
    )


def _readable(tokenizer: Any, index: int) -> str:
    return str(tokenizer.decode([index])).strip()
