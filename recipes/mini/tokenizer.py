"""The embedded model's tokenizer: CLIP's format, with a vocabulary of the captions' own words.

Every word of the captions is one token; anything else falls apart into bytes, as in CLIP.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int64
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from recipes.mini.captions import vocabulary

MAX_LENGTH = 20
"""Positions of the text encoder, start and end included; the longest caption takes 19."""


def build_tokenizer(words: tuple[str, ...] | None = None) -> Any:
    """A ``CLIPTokenizer`` that knows each of the words (by default the captions') as one token.

    It lower-cases, starts with ``<|startoftext|>``, ends and pads with ``<|endoftext|>``.
    """
    words = vocabulary() if words is None else words
    merges = learn_merges(words)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["".join(merge) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=MAX_LENGTH)


def learn_merges(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Byte-pair merges that make every one of the (ASCII) words whole, most frequent pair first.

    Sennrich et al. 2016 (arXiv 1508.07909), algorithm 1, each word counted once. Pairs of one count
    go by the alphabet; the trainer of ``tokenizers`` leaves their order to chance.
    """
    spellings = [[*word[:-1], f"{word[-1]}</w>"] for word in sorted(set(words))]
    merges: list[tuple[str, str]] = []
    while True:
        counts = Counter(pair for spelling in spellings for pair in pairwise(spelling))
        if not counts:
            return merges
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spellings = [_merge(spelling, best) for spelling in spellings]


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


def token_of(tokenizer: Any, word: str) -> int:
    """The one token of a word of the vocabulary."""
    (token,) = tokenizer(word, add_special_tokens=False).input_ids
    return int(token)


def _merge(spelling: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in spelling:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged
