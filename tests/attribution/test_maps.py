import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovamgen.attribution.maps import MapSums, resize
from ovamgen.errors import MethodError

SIZES = st.sampled_from([(8, 4), (4, 2), (2, 1), (8, 8)])


def test_bilinear_by_hand():
    """align_corners=False: the new cell centres lie a quarter cell off the old ones."""
    row = torch.tensor([[[[0.0, 4.0]]]])
    assert resize(row, (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_columns_stay_columns():
    """Trap 1.6 (b): a 2:1 map is not transposed by resizing; the hottest cell is top right."""
    sums = MapSums()
    small = torch.zeros(1, 2, 1)
    small[0, 1] = 1.0
    sums.add(small, (1, 2), 1)
    sums.add(torch.zeros(1, 8, 1), (2, 4), 1)
    total = sums.total()
    assert total.shape == (1, 1, 2, 4)
    assert total[0, 0].tolist() == [[0.0, 0.25, 0.75, 1.0]] * 2


@settings(max_examples=30, deadline=None)
@given(layers=st.lists(SIZES, min_size=1, max_size=6), seed=st.integers(0, 99))
def test_merging_layers_of_equal_size_changes_nothing(layers, seed):
    """Bilinear resizing is linear: merged sums equal the sum of maps that were resized alone."""
    draws = np.random.default_rng(seed)
    largest = max(layers, key=lambda size: size[0] * size[1])
    sums, expected = MapSums(), torch.zeros(2, 3, *largest)
    for height, width in layers:
        values = torch.from_numpy(draws.random((2, height * width, 3), dtype=np.float32))
        maps = values.mT.reshape(2, 3, height, width)
        expected += torch.nn.functional.interpolate(maps, size=largest, mode="bilinear")
        sums.add(values.clone(), (height, width), 5)
    torch.testing.assert_close(sums.total(), expected)
    assert sums.maximum == 5 * len(layers)
    assert sums.nbytes == sum(2 * 3 * 4 * h * w for h, w in set(layers))


def test_the_total_may_be_asked_for_twice():
    sums = MapSums()
    sums.add(torch.ones(1, 4, 1), (2, 2), 1)
    first = sums.total()
    first += 1
    assert sums.total().unique().tolist() == [1.0]


def test_nothing_recorded():
    with pytest.raises(MethodError, match="no attention was recorded"):
        MapSums().total()
