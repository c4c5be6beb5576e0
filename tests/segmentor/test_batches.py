from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.segmentor.batches import Mixture


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
