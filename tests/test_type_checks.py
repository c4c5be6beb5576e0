"""Annotations are checked in every test, those without an array as well as shapes."""

import dataclasses

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation

from ovamgen.classes.phrases import words_of
from ovamgen.corpus.select.table import is_uniform
from ovamgen.masks.binarise import LabelMap
from ovamgen.records import Retry


@pytest.mark.parametrize(
    "call",
    [
        lambda: words_of(3),
        lambda: is_uniform("a picture"),
        lambda: is_uniform(np.zeros((2, 2, 3), np.float32)),
        lambda: is_uniform(np.zeros((2, 2, 4), np.uint8)),
        lambda: Retry(**dict.fromkeys((field.name for field in dataclasses.fields(Retry)), "1")),
        lambda: LabelMap(
            **dict.fromkeys((field.name for field in dataclasses.fields(LabelMap)), np.zeros(3))
        ),
    ],
    ids=["text", "no array", "dtype", "channels", "record", "record of arrays"],
)
def test_what_does_not_fit_its_annotation_fails(call):
    with pytest.raises((TypeError, BeartypeCallHintViolation), match=r"(?i)violates|type-check"):
        call()


def test_what_fits_passes():
    assert is_uniform(np.zeros((2, 2, 3), np.uint8))
    assert words_of("a cat") == words_of("A cat")
