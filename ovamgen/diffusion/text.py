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

from ovamgen.errors import MethodError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextRows:
    """A text as the rows that attribution works with, `<SoT>` first and `<EoT>` after the words."""

    text: str
    rows: Float32[Tensor, "L ctx"]
    """The text encoder's output, final layer norm applied, on the encoder's device."""
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
    """The rows of a text by the pipeline's own tokenizer and text encoder (methods 2.3).

    Args:
        pipe: a StableDiffusionPipeline.
        text: any text that fits the encoder; upper and lower case are one to CLIP.
        padded: fill up to the tokenizer's length with padding rows, as DAAM needs it (1.1).
        cut: leave off what exceeds that length, as drawing does, rather than refuse it.

    Raises:
        MethodError: the text is longer than the text encoder can read, and may not be cut.
    """
    tokenizer = pipe.tokenizer
    ids = list(tokenizer(text, verbose=False, truncation=cut).input_ids)
    longest = tokenizer.model_max_length
    if len(ids) > longest:
        raise MethodError(
            f"an attribution text may have {longest - 2} tokens, got {len(ids) - 2}: "
            f"shorten {text[:60]!r}"
        )
    words = ["<SoT>", *(_readable(tokenizer, index) for index in ids[1:-1]), "<EoT>"]
    if padded:
        words += ["<pad>"] * (longest - len(ids))
        ids += [tokenizer.pad_token_id] * (longest - len(ids))
    encoder = pipe.text_encoder
    with torch.no_grad():
        output = encoder(torch.tensor([ids], device=encoder.device))
    return TextRows(
        text=text,
        rows=output.last_hidden_state[0].float(),
        token_ids=tuple(ids),
        words=tuple(words),
    )


def _readable(tokenizer: Any, index: int) -> str:
    return str(tokenizer.decode([index])).strip()
