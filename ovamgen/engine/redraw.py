"""Generated pictures drawn once more, so that the attention of their drawing can be read.

The queries belong to the picture that is there: how far the new one is from it is told, and what
that means is decided by who asks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from ovamgen.config import SynthesisConfig
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.recorder import Listener
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.errors import ConfigError


class Redrawer:
    """Draws pictures again from their prompts and seeds.

    Args:
        loaded: the model that drew them.
        settings: what they were drawn with; the safety checker is not asked.

    Raises:
        ConfigError: unknown scheduler, or a size that the pipeline cannot draw.
    """

    def __init__(self, loaded: LoadedPipeline, settings: SynthesisConfig) -> None:
        unchecked = settings.model_copy(update={"safety": "off"})
        self._synthesiser = Synthesiser(loaded, unchecked)

    @property
    def latent_size(self) -> tuple[int, int]:
        """(height, width) of one picture's latents."""
        return self._synthesiser.latent_shape[1:]

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        images: Sequence[UInt8[np.ndarray, "H W 3"]],
        listeners: Sequence[Listener],
    ) -> list[float]:
        """Mean absolute difference of each picture to the one that is there, of 255.

        Args:
            prompts: of one batch.
            seeds: one for each prompt.
            images: the pictures that are there.
            listeners: have the batch's attention afterwards.

        Raises:
            ConfigError: a picture is of another size than the settings draw.
            SampleError: one came out broken.
        """
        drawn = self._synthesiser.draw(prompts, seeds, listeners=listeners)
        for error in drawn.errors:
            if error is not None:
                raise error
        return [_difference(*pair) for pair in zip(drawn.images, images, strict=True)]


def _difference(drawn: UInt8[np.ndarray, "H W 3"], there: UInt8[np.ndarray, "h w 3"]) -> float:
    if drawn.shape != there.shape:
        raise ConfigError(
            f"a sample is {there.shape[0]}x{there.shape[1]} pixels but its settings draw "
            f"{drawn.shape[0]}x{drawn.shape[1]}: is this the model that drew it?"
        )
    return float(np.abs(drawn.astype(np.int16) - there.astype(np.int16)).mean())
