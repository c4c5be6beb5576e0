"""The vectors that heads are asked with, beyond the published examples."""

import torch

from ovamgen.attribution.heads.text import datasetdm_words, grounded_words, token_vector
from ovamgen.engine.opened_model import PipelineAttention
from tests.golden.reference import load_model, tiny_sd


def test_a_prompt_of_one_word_is_asked_as_the_training_was():
    model = PipelineAttention(tiny_sd())
    expected = grounded_words(model, "a photograph of a dog", "dog")
    assert torch.equal(grounded_words(model, "dog", "dog"), expected)
    assert torch.equal(grounded_words(model, "", "dog"), expected)
    assert not torch.equal(grounded_words(model, "the Dog", "dog"), expected)


def test_a_text_that_is_too_long_is_cut():
    model = PipelineAttention(tiny_sd())
    rows = model.encode("a " + "x" * 90 + " of a dog", padded=True, cut=True).rows
    assert len(rows) == 77
    got = grounded_words(model, "a " + "x" * 90, "dog")
    # 75 sub-tokens between <SoT> and <EoT>
    torch.testing.assert_close(got, rows[5:76].mean(0))


def test_the_embedded_model_has_vectors_of_its_width():
    model = PipelineAttention(load_model("mini"))
    width = model.encode("a").rows.shape[1]
    assert grounded_words(model, "a photograph of a dog", "dog").shape == (width,)
    rows = model.encode("dog", padded=True).rows
    torch.testing.assert_close(datasetdm_words(model, "dog"), rows.mean(0))
    assert len(rows) == 32


def test_a_pair_is_its_class_row_or_the_mean_of_both():
    pair = torch.tensor([[0.0, 2.0], [4.0, 6.0]])
    assert token_vector(pair).tolist() == [4.0, 6.0]
    assert token_vector(pair, "pair_mean").tolist() == [2.0, 4.0]
