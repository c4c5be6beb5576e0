import hashlib
from dataclasses import replace

import numpy as np
import pytest

from ovamgen.errors import ConfigError
from recipes.mini.backgrounds import WORDS, paint
from recipes.mini.captions import write_caption
from recipes.mini.catalogue import CLASSES
from recipes.mini.composites import SIDE
from tests.voc import find_classes


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


@pytest.fixture(scope="module")
def scenes(composer):
    return replace(composer, overlaps=True, two_object_share=0.5, three_object_share=0.5)


@pytest.mark.parametrize("setting", [{"two_object_share": 0.0}, {"two_object_share": 1.0}, None])
def test_masks_are_exact(composer, scenes, setting):
    """Objects painted black, then white: what differs between the two pictures is the object."""
    pair = []
    for tone in (0, 255):
        pixels = composer.sprites.pixels.copy()
        pixels[..., :3] = tone
        sprites = replace(composer.sprites, pixels=pixels)
        chosen = scenes if setting is None else replace(composer, **setting)
        pair.append(replace(chosen, sprites=sprites))
    # where two or three edges meet, each may cover a little less than half
    surely = 0.9 if setting is None else 0.55
    for index in range(25):
        dark, light = (c.compose(index) for c in pair)
        seen = (light.image.astype(int) - dark.image.astype(int)).max(-1) / 255
        assert (light.labels[seen > surely] > 0).all()
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


def test_objects_of_a_scene_hide_parts_of_each_other(scenes):
    """Each one alone, in a second picture of the same sprites, shows what the others hide."""
    squares = scenes.sprites.pixels.copy()
    squares[..., 3] = 255
    scenes = replace(scenes, sprites=replace(scenes.sprites, pixels=squares))
    counts, hidden = [], 0
    for index in range(40):
        composite = scenes.compose(index)
        counts.append(len(composite.class_ids))
        for class_id in composite.class_ids:
            ys, xs = np.nonzero(composite.labels == class_id)
            box = (np.ptp(ys) + 1) * (np.ptp(xs) + 1)
            hidden += len(ys) < 0.97 * box
            # even of whole squares, far fuller than any sprite, something is always seen
            assert len(ys) > 150
    assert set(counts) == {2, 3}
    assert hidden > 20


def test_objects_of_a_scene_stand_from_left_to_right(scenes):
    for index in range(20):
        composite = scenes.compose(index)
        middles = [np.nonzero(composite.labels == c)[1].mean() for c in composite.class_ids]
        assert middles == sorted(middles)


def test_three_objects_need_overlaps(composer):
    with pytest.raises(ConfigError, match="need overlaps"):
        replace(composer, three_object_share=0.1)


def test_core_pictures_are_those_of_the_first_edition(composer, sprites):
    """A caption is drawn last, so it tells whether any random number before it moved."""
    core = replace(composer, members=sprites.core())
    captions = "\n".join(core.compose(index).caption for index in range(60))
    assert hashlib.sha256(captions.encode()).hexdigest()[:16] == "c82779fb1cf5e990"


@pytest.mark.slow
def test_share_of_pictures_with_two_objects(composer):
    counts = [len(composer.compose(i).class_ids) for i in range(400)]
    # four standard deviations of a binomial share of 0.27
    assert abs(counts.count(2) / 400 - 0.27) < 4 * (0.27 * 0.73 / 400) ** 0.5
    assert set(counts) == {1, 2}


def test_a_class_can_be_asked_for(composer, scenes):
    for index in range(60):
        composite = (composer if index < 30 else scenes).compose(index, class_id=20)
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
            found = {mention.entry.id for mention in find_classes(caption)}
            unread = {
                i for i in class_ids if CLASSES[i - 1].voc.name in ("diningtable", "pottedplant")
            }
            assert set(class_ids) - unread <= found <= set(class_ids), caption


def test_captions_name_three_classes_in_any_order():
    rng = np.random.default_rng(2)
    orders = set()
    for _ in range(60):
        caption = write_caption(rng, (8, 12, 7), "plain")
        found = [mention.entry.id for mention in find_classes(caption)]
        assert sorted(found) == [7, 8, 12]
        orders.add(tuple(found))
    assert len(orders) == 6


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
