"""What the OVAM paper calls DAAM (methods 1.5): OVAM's maps with DAAM's plain threshold.

The published notebook reads OVAM's heatmaps, divides each by its maximum at the image's size and
thresholds it, without self-attention and without a CRF (the preset `daam-ovam`). Unlike DAAM itself
(`ovamgen.attribution.daam`) it works for words that the prompt does not name.
"""

from __future__ import annotations

from collections.abc import Sequence

from ovamgen.attribution.interface import AttributedModel, ClassTarget
from ovamgen.attribution.ovam import Ovam


def daam_ovam(model: AttributedModel, targets: Sequence[ClassTarget]) -> Ovam:
    """OVAM's maps; the difference to OVAM lies in the masks that are made of them.

    Raises:
        MethodError: no targets.
    """
    return Ovam(model, targets)
