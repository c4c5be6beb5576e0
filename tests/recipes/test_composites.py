from dataclasses import replace

import numpy as np
import pytest

from ovamgen.plan.vocabulary import find_classes
from recipes.mini.backgrounds import WORDS, paint
from recipes.mini.captions import write_caption
from recipes.mini.catalogue import CLASSES
from recipes.mini.composites import SIDE


def test_the_same_index_gives_the_same_composite(composer):
    one, two = composer.compose(17), composer.compose(17)
    assert one.image.tobytes() == two.image.tobytes()
    assert one.labels.tobytes() == two.labels.tobytes()
    assert (one.caption, one.class_ids, one.background) == (
        two.caption,
        two.class_ids,
        two.background,
    )


def test_another_index_or_seed_gives_another(composer):
    images = {composer.compose(i).image.tobytes() for i in range(10)}
    images |= {replace(composer, seed=6).compose(i).image.tobytes() for i in range(10)}
    assert len(images) == 20


@pytest.mark.parametrize("two_object_share", [0.0, 1.0])
def test_masks_are_exact(composer, two_object_share):
    """Objects painted black, then white: what differs between the two pictures is the object."""
    pair = []
    for tone in (0, 255):
        pixels = composer.sprites.pixels.copy()
        pixels[..., :3] = tone
        sprites = replace(composer.sprites, pixels=pixels)
        pair.append(replace(composer, sprites=sprites, two_object_share=two_object_share))
    for index in range(25):
        dark, light = (c.compose(index) for c in pair)
        seen = (light.image.astype(int) - dark.image.astype(int)).max(-1) / 255
        assert (light.labels[seen > 0.55] > 0).all()
        assert (light.labels[seen < 0.40] == 0).all()
        assert np.array_equal(dark.labels, light.labels)
        assert set(np.unique(light.labels)) == {0, *light.class_ids}


def test_the_left_object_has_the_first_class(composer):
    for index in range(20):
        composite = replace(composer, two_object_share=1.0).compose(index)
        left, right = (
            np.nonzero(composite.labels == class_id)[1].mean() for class_id in composite.class_ids
        )
        assert left < right


def test_share_of_pictures_with_two_objects(composer):
    counts = [len(composer.compose(i).class_ids) for i in range(400)]
    # four standard deviations of a binomial share of 0.27
    assert abs(counts.count(2) / 400 - 0.27) < 4 * (0.27 * 0.73 / 400) ** 0.5
    assert set(counts) == {1, 2}


def test_a_class_can_be_asked_for(composer):
    for index in range(30):
        composite = composer.compose(index, class_id=20)
        assert composite.class_ids[0] == 20
        assert len(set(composite.class_ids)) == len(composite.class_ids)
        assert 20 in composite.labels


def test_captions_name_the_classes_and_nothing_else():
    """Read by the planner, which does not take a single "table" or "plant" for a class."""
    rng = np.random.default_rng(0)
    for first in range(1, 21):
        for second in range(1, 21):
            class_ids = (first,) if first == second else (first, second)
            caption = write_caption(rng, class_ids, "night")
            found = {mention.voc_class.id for mention in find_classes(caption)}
            unread = {
                i for i in class_ids if CLASSES[i - 1].voc.name in ("diningtable", "pottedplant")
            }
            assert set(class_ids) - unread <= found <= set(class_ids), caption


def test_captions_mostly_name_the_background_and_never_another():
    rng = np.random.default_rng(1)
    named = 0
    for kind in WORDS:
        for _ in range(50):
            caption = write_caption(rng, (3,), kind)
            others = [words for other, words in WORDS.items() if other != kind]
            assert not any(caption.endswith(words) for words in others)
            named += caption.endswith(WORDS[kind])
    assert 0.7 < named / 400 < 0.9


@pytest.mark.parametrize("kind", WORDS)
def test_backgrounds_are_pictures(kind):
    painted = paint(np.random.default_rng(2), kind, SIDE)
    assert painted.shape == (SIDE, SIDE, 3)
    assert painted.dtype == np.float32
    assert painted.min() >= 0
    assert painted.max() <= 255


def test_landscapes_look_like_themselves():
    def half(kind, part):
        painted = paint(np.random.default_rng(3), kind, SIDE)
        return painted[SIDE // 2 :].mean((0, 1))[part] if part < 3 else painted.mean()

    red, green, blue = (half("grass", channel) for channel in range(3))
    assert green > max(red, blue)
    assert half("night", 3) < 60 < 200 < half("snow", 3)
    assert half("sea", 2) > half("sea", 0)
    assert half("desert", 0) > half("desert", 2)
