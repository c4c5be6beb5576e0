"""Samples that show none of the classes: how many, and where they stand among the others.

Networks learn from them what is none of the classes. Of n samples ``floor(n * share)`` are such, in
every beginning of the plan, so that a smaller limit gives the first samples of a larger one.
"""

from __future__ import annotations

import logging
from array import array
from fractions import Fraction

import numpy as np
from jaxtyping import Bool

log = logging.getLogger(__name__)


def places_of_empty(
    *,
    share: float,
    limit: int | None,
    targets: int,
    empty: int,
    samples_before: int = 0,
    empty_before: int = 0,
) -> Bool[np.ndarray, " n"]:
    """Whether each of the samples, in their order, is one without any class.

    Where there are too few without, samples with a class take their places; with a share of 1 there
    are no others.

    Args:
        share: of samples without, [0, 1].
        limit: the most samples in all, or no bound.
        targets: samples with a class that there are.
        empty: captions without that there are.
        samples_before: samples of earlier generations, which count for share and limit.
        empty_before: those of them without.
    """
    # as it is written, not as it is stored: of 100 samples at 0.29 there are 29
    part = Fraction(repr(share))
    found = array("b")
    with_class, without = 0, 0
    while limit is None or samples_before + len(found) < limit:
        wanted = (samples_before + len(found) + 1) * part.numerator // part.denominator
        if wanted > empty_before + without and without < empty:
            without += 1
            found.append(1)
        elif with_class < targets and share < 1:
            with_class += 1
            found.append(0)
        else:
            break
    samples = samples_before + len(found)
    asked = samples * part.numerator // part.denominator
    if asked > empty_before + without:
        log.warning(
            "plan.empty_share %s asks for %d of %d samples without any class, and captions that "
            "name none gave %d: give more of them",
            share,
            asked,
            samples,
            empty_before + without,
        )
    return np.frombuffer(found, np.int8).astype(np.bool_)
