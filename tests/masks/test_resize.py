import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovamgen.masks.resize import resize


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("size", "new_size"),
    [
        ((64, 64), (512, 512)),
        ((8, 16), (64, 128)),
        ((9, 17), (72, 136)),
        ((5, 3), (31, 8)),
        ((7, 6), (7, 6)),
        ((33, 20), (10, 9)),
        ((1, 1), (4, 5)),
    ],
)
def test_equals_torch_interpolate(interpolation, size, new_size):
    maps = np.random.default_rng(3).random((2, *size), dtype=np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[None],
        size=new_size,
        mode=interpolation,
        align_corners=False,
        antialias=False,
    )[0].numpy()
    np.testing.assert_allclose(resize(maps, *new_size, interpolation), expected, atol=1e-5)


def test_bilinear_by_hand():
    row = np.array([[[0.0, 1.0]]], np.float32)
    np.testing.assert_array_equal(resize(row, 1, 4, "bilinear")[0, 0], [0, 0.25, 0.75, 1])


def test_bicubic_by_hand():
    # Kernel with a = -0.75 at distances 1.25, 0.25, 0.75, 1.75 from a step 0 0 1 1 (edge repeated).
    step = np.array([[[0.0, 0.0, 1.0, 1.0]]], np.float32)
    near = 1.25 * 0.75**3 - 2.25 * 0.75**2 + 1
    far = -0.75 * (1.75**3 - 5 * 1.75**2 + 8 * 1.75 - 4)
    result = resize(step, 1, 8, "bicubic")[0, 0]
    np.testing.assert_allclose(result[3], near + far, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    value=st.floats(0, 1, width=32),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    new_size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_constant_maps_stay_constant(value, size, new_size, interpolation):
    maps = np.full((1, *size), value, np.float32)
    np.testing.assert_allclose(resize(maps, *new_size, interpolation), value, atol=1e-6)
