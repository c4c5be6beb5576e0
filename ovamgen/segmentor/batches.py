"""Batches of a training in their order, from any step on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from ovamgen.segmentor.augment import augment
from ovamgen.segmentor.mixture import Mixture
from ovamgen.segmentor.settings import TrainSettings

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images uint8 (B, 3, crop, crop) and labels uint8 (B, crop, crop)."""


def batches(
    mixture: Mixture, settings: TrainSettings, first_step: int, rank: int, world_size: int
) -> Iterator[Batch]:
    """The parts of all steps from the first one on, as one worker sees them.

    A step's pictures are those with the running numbers [step, step + 1) x batch_size; its parts
    and workers divide them between themselves, so that all workers together see the same pictures
    in the same step, however many there are.
    """
    loader = DataLoader(
        _Augmented(mixture, settings),
        batch_sampler=_numbers(settings, first_step, rank, world_size),
        num_workers=settings.loaders,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


class _Augmented(Dataset[Batch]):
    """Augmented pictures by running number."""

    def __init__(self, mixture: Mixture, settings: TrainSettings) -> None:
        self._mixture, self._settings = mixture, settings

    def __getitem__(self, number: int) -> Batch:
        example = self._mixture.read(number)
        settings = self._settings
        assert settings.crop_px is not None, "resolved by the settings"
        image, labels = augment(
            example.image,
            example.labels,
            settings.crop_px,
            settings.augment,
            self._mixture.generator(number),
        )
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels)


def _numbers(
    settings: TrainSettings, first_step: int, rank: int, world_size: int
) -> Iterator[list[int]]:
    size = settings.part_size(world_size)
    for step in range(first_step, settings.steps):
        for part in range(settings.accumulation):
            start = step * settings.batch_size + (part * world_size + rank) * size
            yield list(range(start, start + size))
