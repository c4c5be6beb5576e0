"""One image and the raw heatmaps of any texts, pairs or banks, as an .npz for other programs.

For looking at what a token attends to, and for comparing numbers with other implementations:
nothing is normalised.
"""

from ovamgen.attribute.drawing import Attributed, attribute

__all__ = ["Attributed", "attribute"]
