"""The embedded model's tokenizer: the words of its captions, and one token for all others.

Real captions name many things that the pictures do not show. As CLIP's bytes they would fill the
text encoder with pieces that it never saw in training; as one token that training scatters over a
part of the captions, the model learns to pass over them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from recipes.mini.captions import vocabulary

MAX_LENGTH = 32
"""Positions of the text encoder, start and end included: nearly all captions of COCO fit."""
START, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<unk>"
_UNKNOWN_SHARE = 0.25
_UNKNOWN_MEAN = 4.0


def build_tokenizer(words: tuple[str, ...] | None = None) -> Any:
    """A tokenizer that knows each of the words (by default the captions') as one token.

    As CLIP's it lower-cases, passes over punctuation, starts with ``<|startoftext|>``, and ends and
    pads with ``<|endoftext|>``; unlike CLIP's it reads any other word as ``<unk>``.
    """
    words = vocabulary() if words is None else words
    ids = {token: number for number, token in enumerate([START, END, UNKNOWN, *words])}
    backend = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\p{L}+|\p{N}+"), behavior="removed", invert=True
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, ids[START]), (END, ids[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        model_max_length=MAX_LENGTH,
    )


def tokenize(tokenizer: Any, captions: list[str]) -> Int64[np.ndarray, "n length"]:
    """Token ids, padded and cut to ``MAX_LENGTH``."""
    encoded = tokenizer(
        captions,
        padding="max_length",
        truncation=True,
        max_length=MAX_LENGTH,
        return_tensors="np",
    )
    return np.asarray(encoded.input_ids, np.int64)


def scatter_unknown_words(
    tokenizer: Any, ids: Int64[np.ndarray, "n length"], seed: int
) -> Int64[np.ndarray, "n length"]:
    """The captions, a quarter of them with unknown words in random places.

    Args:
        tokenizer: of the captions.
        ids: what `tokenize` gave; not changed.
        seed: decides which captions, how many words and where; row by row, whatever the others are.
    """
    start, end, unknown = (
        tokenizer.convert_tokens_to_ids(token) for token in (START, END, UNKNOWN)
    )
    result = ids.copy()
    for index, row in enumerate(ids):
        rng = np.random.default_rng([seed, index])
        if rng.random() >= _UNKNOWN_SHARE:
            continue
        words = [int(token) for token in row if token not in (start, end)]
        room = len(row) - 2 - len(words)
        for _ in range(min(room, int(rng.geometric(1 / _UNKNOWN_MEAN)))):
            words.insert(int(rng.integers(len(words) + 1)), unknown)
        padding = [end] * (len(row) - 1 - len(words))
        result[index] = [start, *words, *padding]
    return result


def token_of(tokenizer: Any, word: str) -> int:
    """The one token of a word of the vocabulary."""
    (token,) = tokenizer(word, add_special_tokens=False).input_ids
    return int(token)
