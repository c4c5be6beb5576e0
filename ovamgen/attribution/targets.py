"""Classes as attribution rows: from a token bank, their phrases, or the encoder's own rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ovamgen.attribution.interface import ClassTarget, EncodedText
from ovamgen.attribution.token_bank import TokenBank


def pair_targets(bank: TokenBank, names: Sequence[str]) -> tuple[ClassTarget, ...]:
    """The bank's pairs of these classes, on the CPU; the class row is channel 1 (methods 2.4).

    Raises:
        ConfigError: the bank lacks one of them.
    """
    pairs = torch.from_numpy(bank.select(names))
    return tuple(
        ClassTarget(name=name, rows=pair, channel=1)
        for name, pair in zip(names, pairs, strict=True)
    )


def phrase_targets(
    names: Sequence[str], phrases: Sequence[str], encode: Callable[[str], EncodedText]
) -> tuple[ClassTarget, ...]:
    """Each class as its phrase alone; the last sub-token's map is the class's (methods 2.4).

    Args:
        names: the classes.
        phrases: what the encoder reads for each of them: ``dining table``.
        encode: the model's text encoder, without padding.

    Raises:
        MethodError: a phrase has no words.
    """
    texts = [encode(phrase) for phrase in phrases]
    return tuple(
        ClassTarget(name=name, rows=text.rows, channel=text.last_subtoken())
        for name, text in zip(names, texts, strict=True)
    )


def untrained_bank(
    names: Sequence[str],
    phrases: Sequence[str],
    encode: Callable[[str], EncodedText],
    *,
    text_encoder: str,
) -> TokenBank:
    """Pairs of a text encoder's own rows: `<SoT>` and the last sub-token of each class phrase.

    What an optimiser starts from (methods 2.5), and all that a model without a bank can offer.

    Args:
        names: the classes.
        phrases: what the encoder reads for each of them.
        encode: the model's text encoder, without padding.
        text_encoder: whose encoder it is, for the provenance.

    Raises:
        MethodError: a phrase has no words.
    """
    texts = [encode(phrase) for phrase in phrases]
    pairs = [text.rows[[0, text.last_subtoken()]].cpu().numpy() for text in texts]
    return TokenBank(
        class_names=tuple(names),
        pairs=np.stack(pairs).astype(np.float32),
        provenance={"kind": "untrained", "text_encoder": text_encoder},
        source=f"the untrained pairs of {text_encoder}",
    )
