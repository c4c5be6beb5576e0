"""Dense CRF refinement of label probabilities; the only importer of pydensecrf."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8
from pydensecrf.densecrf import DenseCRF2D

from ovamgen.config import CrfConfig
from ovamgen.errors import SampleError
from ovamgen.masks.resize import resize


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

    With ``half_resolution`` it infers on the image and the probabilities at half the height and
    width (means of 2x2 pixels) with both ``sxy`` halved; kernels are normalised, so the weights
    stay. The beliefs are resized to the image before the most probable label is taken.

    Args:
        image: RGB.
        probabilities: of L <= 256 labels, in [0, 1]; they need not sum to 1.
        settings: ``enabled`` and ``unary`` are not looked at here.

    Raises:
        SampleError: the image and the probabilities differ in size.
    """
    _, height, width = probabilities.shape
    if image.shape != (height, width, 3):
        raise SampleError(
            f"dense_crf expects an RGB image of {height} x {width} pixels, as the probabilities "
            f"are, got an array of shape {image.shape}"
        )
    if not settings.half_resolution:
        return _beliefs(image, probabilities, settings, 1.0).argmax(axis=0).astype(np.uint8)
    half = (height + 1) // 2, (width + 1) // 2
    colours = resize(image.transpose(2, 0, 1).astype(np.float32), *half, "bilinear")
    picture = np.rint(colours).astype(np.uint8).transpose(1, 2, 0)
    beliefs = _beliefs(picture, resize(probabilities, *half, "bilinear"), settings, 0.5)
    return resize(beliefs, height, width, "bilinear").argmax(axis=0).astype(np.uint8)


def _beliefs(
    image: UInt8[np.ndarray, "H W 3"],
    probabilities: Float32[np.ndarray, "L H W"],
    settings: CrfConfig,
    scale: float,
) -> Float32[np.ndarray, "L H W"]:
    """Each label's belief at each pixel; ``scale`` is what was made of a pixel's side."""
    labels, height, width = probabilities.shape
    field = DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(unary_energies(probabilities, settings.clip).reshape(labels, -1))
    if settings.bilateral_weight > 0:
        field.addPairwiseBilateral(
            sxy=settings.bilateral_sxy_px * scale,
            srgb=settings.bilateral_srgb,
            rgbim=np.array(image, order="C"),  # arrays out of Ray are read-only: refused otherwise
            compat=settings.bilateral_weight,
        )
    if settings.gaussian_weight > 0:
        field.addPairwiseGaussian(
            sxy=settings.gaussian_sxy_px * scale, compat=settings.gaussian_weight
        )
    return np.asarray(field.inference(settings.iterations)).reshape(labels, height, width)


def unary_energies(
    probabilities: Float32[np.ndarray, "L H W"], clip: float
) -> Float32[np.ndarray, "L H W"]:
    """Negative logarithms of the probabilities clipped to [clip, 1 - clip] (methods 3).

    With 0.01, as SimpleCRF has it, a hard mask gives 0.01005 for the chosen label and 4.60517 for
    every other.
    """
    return -np.log(np.clip(probabilities, clip, 1 - clip))
