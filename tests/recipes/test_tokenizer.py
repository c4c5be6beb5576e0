import itertools

import numpy as np
import pytest
import yaml
from transformers import AutoTokenizer

from ovamgen.tokenizer import model_tokenizer
from recipes.mini.backgrounds import WORDS
from recipes.mini.captions import vocabulary, write_caption
from recipes.mini.catalogue import CLASSES
from recipes.mini.tokenizer import MAX_LENGTH, scatter_unknown_words, token_of, tokenize


def test_every_word_of_the_captions_is_one_token(tokenizer):
    ids = [token_of(tokenizer, word) for word in vocabulary()]
    assert len(set(ids)) == len(ids)


def test_class_and_background_words_are_in_the_vocabulary():
    words = set(vocabulary())
    for entry in CLASSES:
        assert {*entry.voc.phrase.split(), entry.voc.name} <= words
    assert set(WORDS) <= words


def test_the_template_for_mini_has_only_words_that_it_knows(repository):
    text = yaml.safe_load((repository / "jobs/prompts/mini.yaml").read_text())
    sentences = [*text["sentences"], *text["attributes"], *itertools.chain(*text["words"].values())]
    words = {word for sentence in sentences for word in sentence.split() if word[0] != "{"}
    assert words <= set(vocabulary())


def test_other_words_are_one_token_each_and_punctuation_none(tokenizer):
    ids = tokenizer("a zebra, 25 people & a cat!", add_special_tokens=False).input_ids
    a, cat, unknown = token_of(tokenizer, "a"), token_of(tokenizer, "cat"), tokenizer.unk_token_id
    assert ids == [a, unknown, unknown, unknown, a, cat]


def test_unknown_words_are_scattered_over_a_quarter_of_the_captions(tokenizer):
    ids = tokenize(tokenizer, ["a photograph of a cat on the grass"] * 2000)
    scattered = scatter_unknown_words(tokenizer, ids, seed=1)
    assert np.array_equal(scattered, scatter_unknown_words(tokenizer, ids, seed=1))
    assert np.array_equal(scattered[:50], scatter_unknown_words(tokenizer, ids[:50], seed=1))
    unknown = scattered == tokenizer.unk_token_id
    assert 0.21 < unknown.any(axis=1).mean() < 0.29
    # without them the words stand as they stood: nothing was pushed out at the end
    length = int((ids[0] != tokenizer.eos_token_id).sum())
    for row in scattered:
        assert row[row != tokenizer.unk_token_id][:length].tolist() == ids[0, :length].tolist()
        assert row[-1] == tokenizer.eos_token_id
    assert unknown.sum(axis=1).max() <= MAX_LENGTH - 1 - length


def test_padded_and_cut(tokenizer):
    short, long, empty = tokenize(tokenizer, ["a cat", "cat " * 40, ""])
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    a, cat = token_of(tokenizer, "a"), token_of(tokenizer, "cat")
    assert short.tolist() == [start, a, cat, end] + [end] * (MAX_LENGTH - 4)
    assert long.tolist() == [start] + [cat] * (MAX_LENGTH - 2) + [end]
    assert empty.tolist() == [start] + [end] * (MAX_LENGTH - 1)


def test_upper_case_is_read_as_lower(tokenizer):
    assert (
        tokenizer("A Photograph OF a Cat").input_ids == tokenizer("a photograph of a cat").input_ids
    )


def test_no_caption_is_cut(tokenizer):
    rng = np.random.default_rng(0)
    captions = [write_caption(rng, (11, 16), "plain") for _ in range(2000)]
    longest = max(captions, key=lambda caption: len(caption.split()))
    assert len(tokenizer(longest).input_ids) <= MAX_LENGTH


@pytest.mark.parametrize(
    "text", ["a photograph of a dining table on the sea", "Zebra, 2 people & café!", ""]
)
def test_a_saved_tokenizer_is_read_by_transformers_and_by_the_planner(tokenizer, tmp_path, text):
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    again = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    ours, longest = model_tokenizer(str(tmp_path))
    assert again(text).input_ids == tokenizer(text).input_ids == ours.encode(text).ids
    assert again.model_max_length == longest == MAX_LENGTH
