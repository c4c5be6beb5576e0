"""Dense CRF refinement of label probabilities; the only importer of pydensecrf."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8
from pydensecrf.densecrf import DenseCRF2D

from ovamgen.config import CrfConfig
from ovamgen.errors import SampleError


def dense_crf(
    image: UInt8[np.ndarray, "H W 3"],
    probabilities: Float32[np.ndarray, "L H W"],
    settings: CrfConfig,
) -> UInt8[np.ndarray, "H W"]:
    """The index of the most probable label at every pixel, after mean-field inference.

    Fully connected CRF with Gaussian edge potentials (Krähenbühl and Koltun, NIPS 2011) with the
    numbers of SimpleCRF (methods 3): probabilities are clipped to [clip, 1 - clip] and *not*
    renormalised, unaries are their negative logarithms, two Potts terms weigh a bilateral kernel
    over (x, y, R, G, B) and a spatial one over (x, y), kernels are normalised symmetrically. Ties
    go to the lower label.

    Args:
        image: RGB.
        probabilities: of L <= 256 labels, in [0, 1]; they need not sum to 1.
        settings: ``enabled`` and ``unary`` are not looked at here.

    Raises:
        SampleError: the image and the probabilities differ in size.
    """
    labels, height, width = probabilities.shape
    if image.shape != (height, width, 3):
        raise SampleError(
            f"dense_crf expects an RGB image of {height} x {width} pixels, as the probabilities "
            f"are, got an array of shape {image.shape}"
        )
    field = DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(unary_energies(probabilities, settings.clip).reshape(labels, -1))
    if settings.bilateral_weight > 0:
        field.addPairwiseBilateral(
            sxy=settings.bilateral_sxy_px,
            srgb=settings.bilateral_srgb,
            rgbim=np.array(image, order="C"),  # arrays out of Ray are read-only: refused otherwise
            compat=settings.bilateral_weight,
        )
    if settings.gaussian_weight > 0:
        field.addPairwiseGaussian(sxy=settings.gaussian_sxy_px, compat=settings.gaussian_weight)
    beliefs = np.asarray(field.inference(settings.iterations))
    return beliefs.argmax(axis=0).astype(np.uint8).reshape(height, width)


def unary_energies(
    probabilities: Float32[np.ndarray, "L H W"], clip: float
) -> Float32[np.ndarray, "L H W"]:
    """Negative logarithms of the probabilities clipped to [clip, 1 - clip] (methods 3).

    With 0.01, as SimpleCRF has it, a hard mask gives 0.01005 for the chosen label and 4.60517 for
    every other.
    """
    return -np.log(np.clip(probabilities, clip, 1 - clip))
