import numpy as np
import pytest

from ovamgen.errors import ConfigError
from recipes.mini.catalogue import CORE_SPRITES
from recipes.mini.sprites import SPLITS, load_sprites, save_sprites, sprite_sheet

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


def test_the_sheet_has_a_row_for_each_class(sprites):
    assert sprite_sheet(sprites, cell=10).size == (70, 200)
