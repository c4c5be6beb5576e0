"""Samples drawn once more, with their attention: the queries belong to the picture that is there.

Maps of words come from the class's phrase alone, as generation with ``tokens: words`` reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch import Tensor

from ovamgen.attribution.ovam import PairMaps, TextMaps
from ovamgen.attribution.targets import phrase_targets
from ovamgen.classes.class_entry import ClassEntry
from ovamgen.config import RunConfig
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.diffusion.recorder import AttentionSink
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.engine.redraw import Redrawer
from ovamgen.errors import SampleError
from ovamgen.tokens.examples import Example
from ovamgen.tokens.iou import IouCounts, map_counts, total

LARGEST_DIFFERENCE = 8.0
"""Mean absolute difference, of 255, that another device or library version may make."""
BATCH_SIZE = 8


class Redrawing:
    """Draws samples of a folder again, so that their attention can be read.

    Args:
        loaded: the model that drew them.
        config: the folder's settings; the safety checker is not asked.

    Raises:
        ConfigError: unknown scheduler, or a size that the pipeline cannot draw.
    """

    def __init__(self, loaded: LoadedPipeline, config: RunConfig) -> None:
        self._redrawer = Redrawer(loaded, config.synthesis)
        self._branch = config.attribution.half
        self._classes = config.classes
        self.attention = PipelineAttention(loaded)
        self.latent_size = self._redrawer.latent_size
        """(height, width) of one sample's latents."""

    def draw(self, examples: Sequence[Example], *sinks: AttentionSink) -> None:
        """Draws one batch; the sinks have its attention afterwards.

        Raises:
            ConfigError: a picture of the folder is of another size than its settings draw.
            SampleError: a picture came out broken, or is not the one in the folder.
        """
        differences = self._redrawer.draw(
            [example.sample.prompt for example in examples],
            [example.sample.seed for example in examples],
            [example.image for example in examples],
            [(sink, self._branch) for sink in sinks],
        )
        for example, difference in zip(examples, differences, strict=True):
            if difference > LARGEST_DIFFERENCE:
                raise SampleError(
                    f"sample {example.sample.key} drawn again with {self.attention.name} is not "
                    f"the picture in the folder (mean difference {difference:.1f} of 255, at most "
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
            self.draw(batch, words.sink, classes)
            maps = torch.cat([words.result()[:, None], classes.result()], dim=1).cpu().numpy()
            for example, kinds in zip(batch, maps, strict=True):
                for counts, raw in zip(found, kinds, strict=True):
                    counts.append(map_counts(raw, example.mask))
        return tuple(total(counts) for counts in found)

    def word_maps(self, class_name: str) -> WordMaps:
        """A sink for the maps of the class's phrase."""
        return WordMaps(self.attention, self._classes.by_name(class_name))


class WordMaps:
    """Maps of one class's phrase, the softmax over the phrase's own rows (methods 2.4)."""

    def __init__(self, attention: PipelineAttention, entry: ClassEntry) -> None:
        phrases = {entry.name: entry.phrase}
        (target,) = phrase_targets(phrases, attention.encode)
        self._channel = target.channel
        self.sink = TextMaps(attention.layers, [target.rows])

    def result(self) -> Float32[Tensor, "B h w"]:
        """Raw maps of the last sub-token."""
        (maps,) = self.sink.result()
        return maps[:, self._channel]
