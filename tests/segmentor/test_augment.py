import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovamgen.segmentor.augment import MEAN_RGB, augment, paste_objects
from ovamgen.segmentor.settings import AugmentSettings
from tests.pictures.voc_folders import COLOURS, draw
from tests.voc import IGNORE

PLAIN = AugmentSettings(scale_low=1, scale_high=1, flip=False, jitter=0, hue=0)


def generator(seed=0):
    return np.random.default_rng(seed)


def test_with_everything_off_a_fitting_picture_is_itself():
    image, labels = draw(3)
    got, got_labels = augment(image, labels, 48, PLAIN, generator())
    np.testing.assert_array_equal(got, image)
    np.testing.assert_array_equal(got_labels, labels)


def test_a_crop_is_a_part_of_the_picture_and_its_labels():
    image, labels = draw(1, 60, 80)
    got, got_labels = augment(image, labels, 32, PLAIN, generator(5))
    places = [
        (y, x)
        for y in range(29)
        for x in range(49)
        if np.array_equal(image[y : y + 32, x : x + 32], got)
    ]
    ((y, x),) = places
    np.testing.assert_array_equal(got_labels, labels[y : y + 32, x : x + 32])


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (20, 90)])
def test_what_is_outside_of_the_picture_is_ignored(size):
    image, _ = draw(2, *size)
    labels = np.full(size, 8, np.uint8)
    got, got_labels = augment(image, labels, 48, PLAIN, generator(1))
    outside = got_labels == IGNORE
    assert (~outside).sum() == min(size[0], 48) * min(size[1], 48)
    assert set(np.unique(got_labels[~outside])) == {8}
    np.testing.assert_array_equal(
        got[outside], np.rint(255 * np.array(MEAN_RGB)) + 0 * got[outside]
    )


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    crop=st.integers(32, 64),
    seed=st.integers(0, 2**32),
)
def test_labels_never_become_anything_else(height, width, crop, seed):
    labels = generator(seed).choice(np.array([0, 7, 20, IGNORE], np.uint8), (height, width))
    image = np.zeros((height, width, 3), np.uint8)
    got, got_labels = augment(image, labels, crop, AugmentSettings(), generator(seed))
    assert got.shape == (crop, crop, 3)
    assert got_labels.shape == (crop, crop)
    assert set(np.unique(got_labels)) <= {0, 7, 20, IGNORE}


@pytest.mark.parametrize("seed", range(6))
def test_picture_and_labels_stay_together_under_scale_crop_and_flip(seed):
    """The colour of every pixel says its class: that must hold afterwards, borders apart."""
    image, labels = draw(seed, 64, 80)
    some = AugmentSettings(jitter=0, hue=0)
    got, got_labels = augment(image, labels, 64, some, generator(seed))
    class_id = list(COLOURS)[seed % len(COLOURS)]
    coloured = np.abs(got.astype(int) - COLOURS[class_id]).max(axis=2) < 25
    disc = got_labels == class_id
    inside = got_labels != IGNORE
    assert disc.any()
    assert (coloured != disc)[inside].mean() < 0.03


def test_flip_mirrors_about_half_of_the_pictures():
    image, labels = draw(0)
    labels[:, :24] = 5
    only_flip = AugmentSettings(scale_low=1, scale_high=1, flip=True, jitter=0, hue=0)
    flipped = 0
    for seed in range(60):
        got, got_labels = augment(image, labels, 48, only_flip, generator(seed))
        is_flipped = got_labels[0, 0] != 5
        flipped += is_flipped
        np.testing.assert_array_equal(got, image[:, ::-1] if is_flipped else image)
    assert 18 <= flipped <= 42


def test_colours_change_and_grey_stays_grey():
    image, labels = draw(0)
    only_colour = AugmentSettings(scale_low=1, scale_high=1, flip=False, jitter=0.4, hue=0.1)
    got, got_labels = augment(image, labels, 48, only_colour, generator(1))
    np.testing.assert_array_equal(got_labels, labels)
    assert np.abs(got.astype(int) - image).mean() > 5
    grey = np.repeat(generator().integers(60, 120, (48, 48, 1), dtype=np.uint8), 3, axis=2)
    for seed in range(10):
        got, _ = augment(grey, labels, 48, only_colour, generator(seed))
        assert np.ptp(got.astype(int), axis=2).max() <= 2


def test_hue_keeps_the_luminance():
    image, labels = draw(0)
    image = (image * 0.5 + 60).astype(np.uint8)  # nothing is clipped
    only_hue = AugmentSettings(scale_low=1, scale_high=1, flip=False, jitter=0, hue=0.2)
    got, _ = augment(image, labels, 48, only_hue, generator(2))
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(got @ weights, image @ weights, atol=1.5)
    assert np.abs(got.astype(int) - image).max() > 10


def test_the_same_generator_gives_the_same_picture():
    image, labels = draw(4)
    first = augment(image, labels, 40, AugmentSettings(), generator(9))
    second = augment(image, labels, 40, AugmentSettings(), generator(9))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@given(seed=st.integers(0, 2**32))
def test_objects_are_pasted_in_front_and_nothing_else(seed):
    chance = generator(seed)
    (image, labels), (other, other_labels) = (
        (
            chance.integers(0, 256, (9, 7, 3), np.uint8),
            chance.choice(np.array([0, 3, 20, IGNORE], np.uint8), (9, 7)),
        )
        for _ in range(2)
    )
    got, got_labels = paste_objects(image, labels, other, other_labels)
    for y in range(9):
        for x in range(7):
            front = other_labels[y, x] not in (0, IGNORE)
            assert got_labels[y, x] == (other_labels if front else labels)[y, x]
            np.testing.assert_array_equal(got[y, x], (other if front else image)[y, x])
