import numpy as np
import pytest
from PIL import Image

from ovamgen.errors import ConfigError
from recipes.mini.drawings import DRAWN, dining_tables, put_in_pot
from recipes.mini.sprites import SPRITE_SIDE

pytest.importorskip("resvg_py", reason="needs resvg-py (the recipe's extra)")

from recipes.mini.rasterise import crop, rasterise

COLLECTION = {
    "width": 20,
    "height": 10,
    "icons": {"bar": {"body": '<rect x="4" y="2" width="8" height="4" fill="#ff0000"/>'}},
    "aliases": {"beam": {"parent": "bar"}},
}


def test_a_red_bar_fills_the_width_of_its_sprite():
    pixels = np.asarray(rasterise(COLLECTION, "bar"))
    assert pixels.shape == (SPRITE_SIDE, SPRITE_SIDE, 4)
    middle = pixels[SPRITE_SIDE // 2]
    assert (middle[:, 3] == 255).all()
    assert (middle[:, :3] == (255, 0, 0)).all()
    # twice as wide as high: a quarter above and a quarter below are empty
    rows = np.flatnonzero(pixels[:, SPRITE_SIDE // 2, 3] > 127)
    assert rows[0] == pytest.approx(SPRITE_SIDE / 4, abs=2)
    assert rows[-1] == pytest.approx(3 * SPRITE_SIDE / 4, abs=2)


def test_an_alias_is_its_parent():
    assert rasterise(COLLECTION, "beam").tobytes() == rasterise(COLLECTION, "bar").tobytes()


def test_an_icon_that_a_set_lacks_is_none():
    assert rasterise(COLLECTION, "cat") is None


def test_an_empty_image_is_no_sprite():
    with pytest.raises(ConfigError, match="transparent"):
        crop(Image.new("RGBA", (30, 30)))


def test_tables_are_twelve_different_objects_wider_than_high():
    tables = [np.asarray(crop(table)) for table in dining_tables()]
    assert len({table.tobytes() for table in tables}) == 12
    for table in tables:
        ys, xs = np.nonzero(table[..., 3] > 127)
        assert np.ptp(xs) > np.ptp(ys)
        assert 0.15 < (table[..., 3] > 127).mean() < 0.7


@pytest.mark.parametrize(("name", "count"), [("bicycle", 6), ("chair", 6), ("sofa", 8)])
def test_drawn_objects_differ_and_fit_the_canvas(name, count):
    drawn = [np.asarray(image) for image in DRAWN[name]()]
    assert len({pixels.tobytes() for pixels in drawn}) == len(drawn) == count
    for pixels in drawn:
        border = np.concatenate([pixels[[0, -1]].reshape(-1, 4), pixels[:, [0, -1]].reshape(-1, 4)])
        assert not border[:, 3].any()
        assert set(np.unique(pixels[..., 3])) == {0, 255}


def test_a_pot_stands_under_its_plant():
    plant = Image.new("RGBA", (SPRITE_SIDE, SPRITE_SIDE), (0, 200, 0, 255))
    potted = np.asarray(put_in_pot(plant, 0))
    assert tuple(potted[50, 160]) == (0, 200, 0, 255)
    red, green, _, alpha = (int(v) for v in potted[280, 160])
    assert alpha == 255
    assert red > green
