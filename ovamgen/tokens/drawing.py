"""Samples drawn once more, with their attention: the queries belong to the picture that is there.

Maps of words come from the class's phrase alone, as generation with ``tokens: words`` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ovamgen.attribution.ovam import PairMaps, TextMaps
from ovamgen.attribution.targets import phrase_targets
from ovamgen.classes.voc import class_by_name
from ovamgen.config import RunConfig
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.recorder import AttentionSink
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.engine import PipelineAttention
from ovamgen.errors import SampleError
from ovamgen.tokens.examples import Example
from ovamgen.tokens.iou import IouCounts, map_counts, total

LARGEST_DIFFERENCE = 8.0
"""Mean absolute difference, of 255, that another device or library version may make."""
BATCH_SIZE = 8


class SinkGroup:
    """Several sinks that listen to one drawing."""

    def __init__(self, *sinks: AttentionSink) -> None:
        self._sinks = sinks

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Hands one layer's queries to each of them."""
        for sink in self._sinks:
            sink.update(layer, queries, size)


class Redrawing:
    """Draws samples of a folder again, so that their attention can be read.

    Args:
        loaded: the model that drew them.
        config: the folder's settings; the safety checker is not asked.

    Raises:
        ConfigError: unknown scheduler, or a size that the pipeline cannot draw.
    """

    def __init__(self, loaded: LoadedPipeline, config: RunConfig) -> None:
        settings = config.synthesis.model_copy(update={"safety": "off"})
        self._synthesiser = Synthesiser(loaded, settings)
        self._branch = config.attribution.half
        self._model = loaded.info.model
        self.attention = PipelineAttention(loaded)

    @property
    def latent_size(self) -> tuple[int, int]:
        """(height, width) of one sample's latents."""
        return self._synthesiser.latent_shape[1:]

    def draw(self, examples: Sequence[Example], sink: AttentionSink) -> None:
        """Draws one batch; the sink has its attention afterwards.

        Raises:
            SampleError: a picture came out broken, or is not the one in the folder.
        """
        samples = [example.sample for example in examples]
        drawn = self._synthesiser.draw(
            [sample.prompt for sample in samples],
            [sample.seed for sample in samples],
            sink=sink,
            branch=self._branch,
        )
        for example, image, error in zip(examples, drawn.images, drawn.errors, strict=True):
            if error is not None:
                raise error
            difference = _difference(example, image)
            if difference > LARGEST_DIFFERENCE:
                raise SampleError(
                    f"sample {example.sample.key} drawn again with {self._model} is not the "
                    f"picture in the folder (mean difference {difference:.1f} of 255, at most "
                    f"{LARGEST_DIFFERENCE:g} expected), so its annotation does not fit: was the "
                    "model or the picture changed? Draw the samples again with 'ovamgen samples'"
                )

    def counts(
        self,
        examples: Sequence[Example],
        class_name: str,
        pairs: Float32[Tensor, "K 2 ctx"],
    ) -> tuple[IouCounts, ...]:
        """Counts of the class word's maps, then of each pair's, summed over the examples.

        Raises:
            SampleError: a picture came out broken, or is not the one in the folder.
        """
        found: list[list[IouCounts]] = [[] for _ in range(1 + len(pairs))]
        for start in range(0, len(examples), BATCH_SIZE):
            batch = examples[start : start + BATCH_SIZE]
            words, classes = self.word_maps(class_name), PairMaps(self.attention.layers, pairs)
            self.draw(batch, SinkGroup(words.sink, classes))
            maps = torch.cat([words.result()[:, None], classes.result()], dim=1).cpu().numpy()
            for example, kinds in zip(batch, maps, strict=True):
                for counts, raw in zip(found, kinds, strict=True):
                    counts.append(map_counts(raw, example.mask))
        return tuple(total(counts) for counts in found)

    def word_maps(self, class_name: str) -> WordMaps:
        """A sink for the maps of the class's phrase."""
        return WordMaps(self.attention, class_name)


class WordMaps:
    """Maps of one class's phrase, the softmax over the phrase's own rows (methods 2.4)."""

    def __init__(self, attention: PipelineAttention, class_name: str) -> None:
        phrases = {class_name: class_by_name(class_name).phrase}
        (target,) = phrase_targets(phrases, attention.encode)
        self._channel = target.channel
        self.sink = TextMaps(attention.layers, [target.rows])

    def result(self) -> Float32[Tensor, "B h w"]:
        """Raw maps of the last sub-token."""
        (maps,) = self.sink.result()
        return maps[:, self._channel]


def _difference(example: Example, image: np.ndarray) -> float:
    if image.shape != example.image.shape:
        return 255.0
    return float(np.abs(image.astype(np.int16) - example.image.astype(np.int16)).mean())
