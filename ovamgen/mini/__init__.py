"""The embedded model: where its files lie. `recipes.mini` made them.

``model/`` is a pipeline in diffusers format, ``tokens.safetensors`` its optimised pairs of the 20
classes, ``heads/`` networks that find objects in its features, ``voc/`` a validation set in VOC's
layout with exact masks.
"""

from __future__ import annotations

from pathlib import Path

NAME = "mini"
"""What users call it."""
_HERE = Path(__file__).parent
MODEL = _HERE / "model"
TOKENS = _HERE / "tokens.safetensors"
VOC = _HERE / "voc"
HEADS = {name: _HERE / "heads" / f"{name}.safetensors" for name in ("grounded", "datasetdm")}
"""Heads by the method that they are for (docs/results/heads.md)."""

TOKENS_TAU = 0.55
"""The threshold that suits `TOKENS` (docs/results/mini.md). It stands here beside that file, which
says the same, since a configuration is resolved without opening any."""
WORDS_TAU = 0.7
"""The threshold that suits maps of class words; at the published 0.4 a mask is the whole picture
(docs/results/comparison, on drawings of the model)."""


def voc_place(folder: str) -> str:
    """Where a data set in VOC's layout lies: `VOC` for ``mini``, else as it was asked for."""
    return str(VOC) if folder == NAME else folder
