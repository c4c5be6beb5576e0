from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.pictures.example import Example
from ovamgen.segmentor.batches import Mixture, batches
from ovamgen.segmentor.settings import build_settings


@dataclass
class Numbers:
    """So many examples, none of which is ever read."""

    length: int

    def __len__(self):
        return self.length

    def read(self, index):
        raise AssertionError(f"nothing is read, {index} was")

    def digest(self):
        return ""


def mixture(lengths, share=0.0, seed=0):
    return Mixture(sources=[Numbers(n) for n in lengths], second_share=share, seed=seed)


def test_every_epoch_sees_every_picture_once_in_another_order():
    one = mixture([7])
    epochs = [[one.place(7 * e + i) for i in range(7)] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == [(0, i) for i in range(7)]
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_is_a_function_of_seed_and_number_alone():
    numbers = [5, 19, 0, 3]
    assert [mixture([9, 4], 0.3).place(n) for n in numbers] == [
        mixture([9, 4], 0.3).place(n) for n in sorted(numbers, key=numbers.index)
    ]
    orders = {tuple(mixture([9], seed=seed).place(n) for n in range(9)) for seed in range(4)}
    assert len(orders) == 4


@given(share=st.floats(0, 1), start=st.integers(0, 500), length=st.integers(1, 200))
def test_every_stretch_has_its_share(share, start, length):
    mixed = mixture([50, 11], share)
    second = sum(mixed.place(n)[0] for n in range(start, start + length))
    assert abs(second - share * length) <= 1 + 1e-6


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_both_sources_are_gone_through_evenly(share):
    mixed = mixture([6, 3], share)
    seen = Counter(mixed.place(n) for n in range(240))
    for source in (0, 1):
        counts = [seen[source, index] for index in range((6, 3)[source])]
        assert max(counts) - min(counts) <= 1


def test_augmentation_draws_anew_for_every_number():
    one = mixture([3])
    draws = [one.generator(n).uniform() for n in range(6)]
    assert len(set(draws)) == 6
    assert one.generator(4).uniform() == draws[4]


class Squares:
    """Pictures with one square each, of a colour and a label of its own."""

    def __len__(self):
        return 6

    def read(self, index):
        labels = np.zeros((40, 40), np.uint8)
        labels[12:28, 12:28] = index + 1
        image = np.stack([labels * 40] * 3, axis=-1)
        return Example(name=str(index), image=image, labels=labels)

    def digest(self):
        return ""


def seen(share, first_step=0):
    """Images and labels of all steps from one on."""
    off = {"scale_low": 1, "scale_high": 1, "flip": False, "jitter": 0, "hue": 0}
    asked = {"real": "x", "steps": 12, "batch_size": 4, "crop_px": 40, "loaders": 0}
    settings = build_settings({**asked, "augment": {**off, "copy_paste": share}})
    pictures = Mixture(sources=[Squares()], second_share=0.0, seed=3)
    outputs = np.arange(256, dtype=np.uint8)
    return list(batches(pictures, settings, outputs, first_step, 0, 1))


def test_pictures_of_one_object_become_scenes_of_several():
    images, labels = (torch.cat(parts) for parts in zip(*seen(1.0), strict=True))
    # a square is as bright as its label says, whichever picture it is from, but at resized edges
    assert (images[:, 0] == labels * 40).float().mean() > 0.95
    several = sum(len(set(one.unique().tolist()) - {0, 255}) > 1 for one in labels)
    # one in six has its own label again, and some are covered
    assert several > len(labels) / 2


def test_a_share_of_the_pictures_is_pasted_onto():
    plain = torch.cat([labels for _, labels in seen(0.0)])
    pasted = torch.cat([labels for _, labels in seen(0.4)])
    changed = (plain != pasted).flatten(1).any(1).float().mean()
    assert 0.15 < changed < 0.55


def test_pasted_objects_are_the_same_from_any_step_on():
    for whole, later in zip(seen(1.0)[5:], seen(1.0, first_step=5), strict=True):
        assert all(map(torch.equal, whole, later))


def test_trainings_that_paste_nothing_are_what_they_were():
    assert "copy_paste" not in build_settings({"real": "x"}).semantic()["augment"]
