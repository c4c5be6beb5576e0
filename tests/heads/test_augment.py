import numpy as np

from ovamgen.heads.augment import SCALES, scaled_crop


def picture(height, width):
    """Every pixel tells its place; the object is a square in the lower right quarter."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(height)[:, None] % 256
    image[..., 1] = np.arange(width)[None] % 256
    mask = np.zeros((height, width), bool)
    mask[height * 3 // 4 : height * 7 // 8, width * 3 // 4 : width * 7 // 8] = True
    image[..., 2] = mask * 255
    return image, mask


def test_crops_have_one_size_and_the_mask_stays_on_its_object():
    image, mask = picture(80, 120)
    held = 0
    for seed in range(60):
        crop, cut = scaled_crop(image, mask, 64, np.random.default_rng(seed))
        assert crop.shape == (64, 64, 3)
        assert cut.shape == (64, 64)
        assert cut.dtype == bool
        # away from edges, which are mixed where the picture is resized
        certain = (crop[..., 2] < 100) | (crop[..., 2] > 155)
        assert np.array_equal(cut[certain], crop[..., 2][certain] > 155)
        held += cut.any()
    # five of eight look for the object, the others find it by chance
    assert held >= 60 * 5 / 8


def test_a_picture_of_exactly_the_size_is_left_alone_at_scale_one():
    image, mask = picture(64, 64)
    drawn = (np.random.default_rng(seed).integers(len(SCALES)) for seed in range(100))
    seed = next(seed for seed, place in enumerate(drawn) if SCALES[place] == 1.0)
    crop, cut = scaled_crop(image, mask, 64, np.random.default_rng(seed))
    assert np.array_equal(crop, image)
    assert np.array_equal(cut, mask)


def test_a_picture_without_object_is_cropped_anywhere():
    image, mask = picture(70, 70)
    crop, cut = scaled_crop(image, mask & False, 64, np.random.default_rng(3))
    assert crop.shape == (64, 64, 3)
    assert not cut.any()


def test_the_same_numbers_give_the_same_crop():
    image, mask = picture(90, 70)
    one, other = (scaled_crop(image, mask, 64, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one[0], other[0])
