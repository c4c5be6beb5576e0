"""Classes as attribution rows: from a token bank, their phrases, or the encoder's own rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ovamgen.attribution.interface import ClassTarget, EncodedText
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.errors import MethodError


def pair_targets(
    bank: TokenBank, names: Sequence[str], phrases: Sequence[str] | None = None
) -> tuple[ClassTarget, ...]:
    """The bank's pairs of these classes, on the CPU; the class row is channel 1 (methods 2.4).

    Args:
        bank: of one text encoder.
        names: the classes.
        phrases: the words that name each of them in a prompt; their names where not given.

    Raises:
        ConfigError: the bank lacks one of them.
    """
    pairs = torch.from_numpy(bank.select(names))
    return tuple(
        ClassTarget(name=name, rows=pair, channel=1, phrase=phrase)
        for name, pair, phrase in zip(names, pairs, phrases or names, strict=True)
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
        ClassTarget(name=name, rows=text.rows, channel=text.last_subtoken(), phrase=phrase)
        for name, text, phrase in zip(names, texts, phrases, strict=True)
    )


def prompt_target(
    name: str, phrase: str, prompt: str, encode: Callable[[str], EncodedText]
) -> ClassTarget:
    """A class as its words in a prompt: all rows of the prompt compete (methods 2.4, VOC-sim).

    The map is that of the last sub-token of the phrase's first occurrence.

    Args:
        name: the class.
        phrase: the words that name it: ``dining table``.
        prompt: the text that names it.
        encode: the model's text encoder, without padding.

    Raises:
        MethodError: the phrase has no words, or the prompt does not name it.
    """
    text = encode(prompt)
    wanted = phrase_ids(encode(phrase))
    starts = occurrences(text.token_ids, wanted)
    if not starts:
        raise MethodError(
            f"the phrase {phrase!r} is not in the prompt {prompt!r}: name it there, or attribute "
            "the phrase alone"
        )
    return ClassTarget(
        name=name, rows=text.rows, channel=starts[0] + len(wanted) - 1, phrase=phrase
    )


def phrase_ids(text: EncodedText) -> tuple[int, ...]:
    """The sub-tokens of a phrase that was encoded alone, without `<SoT>` and `<EoT>`.

    Raises:
        MethodError: it has no words.
    """
    return tuple(text.token_ids[1 : text.last_subtoken() + 1])


def occurrences(token_ids: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    """Every row at which these sub-tokens begin, in order."""
    length, wanted = len(wanted), tuple(wanted)
    starts = range(len(token_ids) - length + 1)
    return tuple(row for row in starts if tuple(token_ids[row : row + length]) == wanted)


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
