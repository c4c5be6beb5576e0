"""Which vector of text a head is asked with: words as the published code encodes them, or tokens.

Its quirks are part of what the published weights were trained and scored with (methods 5.3, 5.6,
6.3 and 6.6), so they are kept.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from ovamgen.attribution.interface import AttributedModel

_FIRST_ROW = 5
"""Row of the class in "a photograph of a CLASS", `<SoT>` being row 0."""
_SECOND_WORD = "photograph"
"""The second word of the training's texts; it stands in where a prompt has none."""

TRAINING_CLASS = "aeroplane"
"""What DatasetDM's released training asks for whatever the picture's class is (methods 6.3)."""

Conditioning = Literal["row", "pair_mean"]
"""What DatasetDM gets of an optimised pair: its class row, or the mean of both rows."""


def grounded_words(model: AttributedModel, prompt: str, class_name: str) -> Float[Tensor, " ctx"]:
    """The query of a class's words for Grounded Diffusion (methods 5.3).

    The text is "a WORD of a CLASS" with the second word of the generation prompt, as it stands
    between spaces. The mean runs from row 5 to the last sub-token, which is the class if that
    word is one sub-token; if it has more, rows before the class are in the mean as well.

    Args:
        model: whose text encoder is asked.
        prompt: the generation prompt.
        class_name: the class as it is to be named.
    """
    words = prompt.split(maxsplit=2)
    second = words[1] if len(words) > 1 else _SECOND_WORD
    text = model.encode(f"a {second} of a {class_name}", padded=True, cut=True)
    last = text.last_subtoken()
    # encoders with a vocabulary of words may have fewer rows than CLIP
    return text.rows[min(_FIRST_ROW, last) : last + 1].mean(0)


def datasetdm_words(model: AttributedModel, class_name: str) -> Float[Tensor, " ctx"]:
    """The vector of a class's words for DatasetDM: the mean of all rows, padding included (6.3)."""
    return model.encode(class_name, padded=True, cut=True).rows.mean(0)


def token_vector(
    pair: Float[Tensor, "2 ctx"], conditioning: Conditioning = "row"
) -> Float[Tensor, " ctx"]:
    """What stands in for words where a class has an optimised pair (methods 5.6 and 6.6).

    Args:
        pair: rows [background, class].
        conditioning: ``row`` is the class row, the only one that Grounded Diffusion takes;
            ``pair_mean`` is the mean of both.
    """
    return pair[1] if conditioning == "row" else pair.mean(0)
