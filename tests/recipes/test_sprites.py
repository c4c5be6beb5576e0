import numpy as np
import pytest

from ovamgen.errors import ConfigError
from recipes.mini.catalogue import CORE_SPRITES
from recipes.mini.sprites import (
    SPLITS,
    SPRITE_SIDE,
    Sprites,
    load_sprites,
    save_sprites,
    sprite_sheet,
    twin_name,
)

CHAIR, CAT = 9, 8


def test_splits_are_disjoint_and_complete(sprites):
    splits = [sprites.of_split(split)[CAT] for split in SPLITS]
    together = sorted(index for members in splits for index in members)
    assert together == [int(i) for i in np.flatnonzero(sprites.class_ids == CAT)]
    assert [len(members) for members in splits] == [5, 1, 1]


def test_a_class_with_few_sprites_shows_them_in_every_split(sprites):
    members = [sprites.of_split(split)[CHAIR] for split in SPLITS]
    assert members[0] == members[1] == members[2]
    assert len(members[0]) == 4


def cats(*names):
    blank = np.zeros((len(names), SPRITE_SIDE, SPRITE_SIDE, 4), np.uint8)
    return Sprites(names=names, class_ids=np.full(len(names), CAT), pixels=blank)


def test_twins_share_a_split():
    """A flat copy of a training sprite would be no stranger at the test."""
    sets = ("noto", "noto-v1", "twemoji", "emojione", "fxemoji")
    names = [f"{name}/{icon}" for icon in ("black-cat", "catside") for name in sets]
    names += ["fluent-emoji/black-cat", "fluent-emoji-flat/black-cat"]
    names += ["fluent-emoji/cat", "fluent-emoji-flat/cat"]
    sprites = cats(*names)
    homes = {
        sprites.names[index]: split for split in SPLITS for index in sprites.of_split(split)[CAT]
    }
    assert sorted(homes) == sorted(names)
    assert homes["fluent-emoji/black-cat"] == homes["fluent-emoji-flat/black-cat"]
    # the flat one is a core sprite
    assert homes["fluent-emoji/cat"] == homes["fluent-emoji-flat/cat"] == "train"


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("fluent-emoji-flat/dog", "fluent-emoji/dog"),
        ("noto/man-walking", "noto/person-walking"),
        ("streamline-emojis/man-walking-1", "streamline-emojis/woman-walking-1"),
    ],
)
def test_nearly_one_shape_has_one_name(name, twin):
    assert twin_name(name) == twin_name(twin)


@pytest.mark.parametrize(
    ("name", "other"), [("noto/dog", "noto-v1/dog"), ("drawn/sofa-00", "drawn/sofa-01")]
)
def test_other_shapes_have_other_names(name, other):
    assert twin_name(name) != twin_name(other)


def test_core_sprites_are_for_training(sprites):
    for class_id, members in sprites.core().items():
        assert len(members) == 3
        assert set(members) <= set(sprites.of_split("train")[class_id])
        assert {sprites.names[index] for index in members} <= CORE_SPRITES


def test_saved_and_loaded(sprites, tmp_path):
    for name in ("a.npz", "b.npz"):
        save_sprites(sprites, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert load_sprites(tmp_path / "a.npz").digest() == sprites.digest()


def test_the_digest_sees_one_pixel(sprites):
    other = sprites.pixels.copy()
    other[0, 80, 80, 0] ^= 1
    changed = type(sprites)(names=sprites.names, class_ids=sprites.class_ids, pixels=other)
    assert changed.digest() != sprites.digest()


def test_missing_sprites_say_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="run 'sprites' first"):
        load_sprites(tmp_path / "none.npz")


def test_the_sheet_has_a_row_for_each_class_and_a_colour_for_each_split(sprites):
    sheet = np.asarray(sprite_sheet(sprites, cell=10))
    assert sheet.shape == (200, 70, 3)
    corners = [tuple(int(v) for v in sheet[10 * (CAT - 1), 10 * column]) for column in range(7)]
    assert [corners.count(color) for color in dict.fromkeys(corners)] == [5, 1, 1]
    assert tuple(sheet[10 * (CHAIR - 1), 65]) == (255, 255, 255)
