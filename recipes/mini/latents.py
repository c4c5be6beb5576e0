"""Latents that need no training: a linear PCA of 8 x 8 patches, on a 16 x 16 grid.

With patches p of 192 values in [-1, 1], mean m, principal axes V (192, C) and deviations s of the
components, z = (p - m) V / c with c proportional to the square root of s: strong components stay
stronger than weak ones, as natural images have it, and the mean variance over channels is 1.
The decoder that makes pictures out of them is trained in ``autoencoder``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from safetensors.numpy import load_file, save_file

from ovamgen.errors import ConfigError
from recipes.mini.composites import SIDE

PATCH = 8
CELLS = SIDE // PATCH
CHANNELS = 16
"""Of a latent space that is fitted anew, unless it is told otherwise; as the shipped model has."""

Images = UInt8[np.ndarray, "n 128 128 3"]
Latents = Float32[np.ndarray, "n channels 16 16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSpace:
    """The linear map between images and latents."""

    mean: Float32[np.ndarray, " 192"]
    basis: Float32[np.ndarray, "192 channels"]
    """Columns are orthonormal."""
    scale: Float32[np.ndarray, " channels"]
    """What each component is divided by."""

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.basis.shape[1]

    def encode(self, images: Images) -> Latents:
        """Latents of RGB images."""
        z = (_patches(images) - self.mean) @ (self.basis / self.scale)
        z = z.reshape(-1, CELLS, CELLS, self.channels)
        return np.ascontiguousarray(z.transpose(0, 3, 1, 2))

    def decode(self, latents: Latents) -> Images:
        """The linear reconstruction, clipped to [0, 255]."""
        z = latents.transpose(0, 2, 3, 1) * self.scale
        patches = (z @ self.basis.T + self.mean).reshape(-1, CELLS, CELLS, PATCH, PATCH, 3)
        pixels = patches.transpose(0, 1, 3, 2, 4, 5).reshape(-1, SIDE, SIDE, 3)
        return ((np.clip(pixels, -1, 1) + 1) * 127.5).round().astype(np.uint8)

    def save(self, path: Path) -> None:
        """Writes the three arrays as safetensors."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"mean": self.mean, "basis": self.basis, "scale": self.scale}, path)

    @classmethod
    def load(cls, path: Path) -> LatentSpace:
        """The latent space that ``save`` wrote.

        Raises:
            ConfigError: the file does not exist.
        """
        if not path.exists():
            raise ConfigError(
                f"{path} must hold a latent space, it is missing: 'data' writes it to a work "
                "folder, 'keep' beside weights"
            )
        return cls(**load_file(path))


def fit_latent_space(images: Images, channels: int = CHANNELS) -> LatentSpace:
    """The latent space of the images' patches; deterministic up to rounding, signs included."""
    patches = _patches(images).reshape(-1, PATCH * PATCH * 3).astype(np.float64)
    mean = patches.mean(0)
    variances, axes = np.linalg.eigh(np.cov(patches, rowvar=False))
    order = np.argsort(variances)[::-1][:channels]
    deviations, basis = np.sqrt(variances[order]), axes[:, order]
    # An eigenvector's sign is free: the largest entry of each is made positive.
    basis = basis * np.sign(basis[np.abs(basis).argmax(0), np.arange(channels)])
    scale = np.sqrt(deviations) * np.sqrt(deviations.mean())
    return LatentSpace(
        mean=mean.astype(np.float32),
        basis=np.ascontiguousarray(basis, np.float32),
        scale=scale.astype(np.float32),
    )


def psnr(images: Images, others: Images) -> float:
    """Peak signal-to-noise ratio in dB over all pixels."""
    error = np.square(images.astype(np.float64) - others.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def _patches(images: Images) -> Float32[np.ndarray, "n 16 16 192"]:
    """Patches as rows of 192 values in [-1, 1]: row, column, colour, the last the fastest."""
    x = images.astype(np.float32) / 127.5 - 1
    x = x.reshape(-1, CELLS, PATCH, CELLS, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, CELLS, CELLS, PATCH * PATCH * 3)
