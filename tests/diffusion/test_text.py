import pytest
import torch

from ovamgen.diffusion.text import encode_text
from ovamgen.errors import MethodError
from tests.diffusion.small import small_pipeline
from tests.golden.reference import tiny_sd


@pytest.fixture(scope="module")
def clip():
    """A pipeline with CLIP's own vocabulary."""
    return small_pipeline()


def test_rows_equal_those_of_the_padded_encoding():
    """Methods 2.3: CLIP is causal."""
    pipe = tiny_sd().pipe
    short = encode_text(pipe, "a photograph of a cat")
    embedded, _ = pipe.encode_prompt("a photograph of a cat", "cpu", 1, False)
    assert short.rows.shape == (7, 24)
    torch.testing.assert_close(short.rows, embedded[0, :7])
    padded = encode_text(pipe, "a photograph of a cat", padded=True)
    torch.testing.assert_close(padded.rows, embedded[0])


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("cat", ("cat",)),
        ("aeroplane", ("aerop", "lane")),
        ("dining table", ("dining", "table")),
        ("pottedplant", ("pot", "ted", "plant")),
    ],
)
def test_words_and_the_last_subtoken(clip, phrase, words):
    """Methods 0.5: how CLIP cuts the class names."""
    text = encode_text(clip, phrase)
    assert text.words == ("<SoT>", *words, "<EoT>")
    assert text.token_ids[0] == 49406
    assert text.token_ids[-1] == 49407
    assert text.last_subtoken() == len(words) == len(text.rows) - 2


def test_last_subtoken_of_a_padded_text(clip):
    text = encode_text(clip, "dining table", padded=True)
    assert len(text.rows) == len(text.words) == 77
    assert text.last_subtoken() == 2


def test_long_texts_are_refused(clip):
    assert len(encode_text(clip, "cat " * 75).rows) == 77
    with pytest.raises(MethodError, match="75 tokens, got 76"):
        encode_text(clip, "cat " * 76)


def test_a_text_without_words_has_no_last_subtoken(clip):
    text = encode_text(clip, "")
    assert text.words == ("<SoT>", "<EoT>")
    with pytest.raises(MethodError, match="at least one word"):
        text.last_subtoken()
