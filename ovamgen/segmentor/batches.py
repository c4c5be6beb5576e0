"""Which pictures a training sees, in which order, augmented and in batches, from any step on.

The order is a function of the training's seed and a running number alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch.utils.data import DataLoader, Dataset

from ovamgen.pictures.example import Example, Examples
from ovamgen.segmentor.augment import augment, paste_objects
from ovamgen.segmentor.settings import AugmentSettings, TrainSettings

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images uint8 (B, 3, crop, crop); numbers of outputs, or 255, uint8 (B, crop, crop)."""


_ORDER, _AUGMENT = 0, 1
"""What random numbers are for: streams of different purposes are independent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """One or two sources as an endless sequence of pictures, each epoch in a new order.

    Of every stretch of the sequence, the second source has its share to within one picture.
    """

    sources: Sequence[Examples]
    second_share: float
    """Share of the second source, in [0, 1]; 0 where there is only one."""
    seed: int

    def place(self, number: int) -> tuple[int, int]:
        """Source and index of the picture with a running number."""
        # as a line is drawn in pixels: the second source's count grows by one at even distances
        before = int(number * self.second_share)
        source = int((number + 1) * self.second_share) - before
        turn = before if source else number - before
        epoch, position = divmod(turn, len(self.sources[source]))
        order = _order(self.seed, source, epoch, len(self.sources[source]))
        return source, int(order[position])

    def read(self, number: int) -> Example:
        """The picture with a running number."""
        source, index = self.place(number)
        return self.sources[source].read(index)

    def another(self, generator: np.random.Generator) -> Example:
        """A picture that the generator chooses, with the shares of the sequence."""
        return self.read(int(generator.integers(sum(map(len, self.sources)))))

    def generator(self, number: int) -> np.random.Generator:
        """The random numbers that augment the picture with a running number."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, _AUGMENT, number]))


@lru_cache(maxsize=4)
def _order(seed: int, source: int, epoch: int, length: int) -> Int64[np.ndarray, " N"]:
    sequence = np.random.SeedSequence([seed, _ORDER, source, epoch])
    return np.random.default_rng(sequence).permutation(length)


def batches(
    mixture: Mixture,
    settings: TrainSettings,
    outputs: UInt8[np.ndarray, " 256"],
    first_step: int,
    rank: int,
    world_size: int,
) -> Iterator[Batch]:
    """The parts of all steps from the first one on, as one worker sees them.

    A step's pictures are those with the running numbers [step, step + 1) x batch_size; its parts
    and workers divide them between themselves, so that all workers together see the same pictures
    in the same step, however many there are.

    Args:
        mixture: of the pictures.
        settings: of the training.
        outputs: by label, what the network is to say (`output_of_label`).
        first_step: the first that is asked for.
        rank: of this worker.
        world_size: how many workers there are.
    """
    loader = DataLoader(
        _Augmented(mixture, settings, outputs),
        batch_sampler=_numbers(settings, first_step, rank, world_size),
        num_workers=settings.loaders,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


class _Augmented(Dataset[Batch]):
    """Augmented pictures by running number."""

    def __init__(
        self, mixture: Mixture, settings: TrainSettings, outputs: UInt8[np.ndarray, " 256"]
    ) -> None:
        self._mixture, self._settings, self._outputs = mixture, settings, outputs

    def __getitem__(self, number: int) -> Batch:
        generator = self._mixture.generator(number)
        settings = self._settings.augment
        image, labels = self._crop(self._mixture.read(number), settings, generator)
        # without it no random number is drawn: such trainings stay what they were
        if settings.copy_paste and generator.uniform() < settings.copy_paste:
            # down to half as large: the objects of a scene are smaller than one that has it alone
            smaller = settings.model_copy(update={"scale_low": settings.scale_low / 2})
            other = self._crop(self._mixture.another(generator), smaller, generator)
            image, labels = paste_objects(image, labels, *other)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(self._outputs[labels])

    def _crop(
        self, example: Example, settings: AugmentSettings, generator: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "crop crop 3"], UInt8[np.ndarray, "crop crop"]]:
        assert self._settings.crop_px is not None, "resolved by the settings"
        return augment(example.image, example.labels, self._settings.crop_px, settings, generator)


def _numbers(
    settings: TrainSettings, first_step: int, rank: int, world_size: int
) -> Iterator[list[int]]:
    size = settings.part_size(world_size)
    for step in range(first_step, settings.steps):
        for part in range(settings.accumulation):
            start = step * settings.batch_size + (part * world_size + rank) * size
            yield list(range(start, start + size))
