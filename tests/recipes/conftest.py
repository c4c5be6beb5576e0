"""Small pictures and networks for the recipe's tests: nothing is fetched, nothing is large."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from recipes.mini.catalogue import CLASSES, CORE_SPRITES
from recipes.mini.composites import Composer
from recipes.mini.dataset import DataSettings, build_cache
from recipes.mini.latents import fit_latent_space
from recipes.mini.model import ModelShape
from recipes.mini.sprites import SPRITE_SIDE, Sprites, save_sprites
from recipes.mini.tokenizer import build_tokenizer

SMALL = ModelShape(
    unet_widths=(16, 32, 32), head_width=16, norm_groups=8, text_width=64, text_layers=1
)


@pytest.fixture(autouse=True)
def one_thread():
    """Two cores are shared with other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sprites():
    """Seven sprites a class, four for chair: polygons with as many corners as the class has."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    names, class_ids, pixels = [], [], []
    for class_id, entry in enumerate(CLASSES, start=1):
        core = sorted(name for name in CORE_SPRITES if _shows(name, entry))
        others = [
            f"test/{entry.voc.name}-{i}" for i in range(1 if entry.voc.name == "chair" else 4)
        ]
        for number, name in enumerate([*core, *others]):
            image = Image.new("RGBA", (SPRITE_SIDE, SPRITE_SIDE))
            draw = ImageDraw.Draw(image)
            color = tuple(int(v) for v in np.random.default_rng(class_id).integers(30, 226, 3))
            circle = (SPRITE_SIDE / 2, SPRITE_SIDE / 2, SPRITE_SIDE / 2 - 4 * number)
            draw.regular_polygon(circle, class_id % 6 + 3, rotation=7 * class_id, fill=color)
            names.append(name)
            class_ids.append(class_id)
            pixels.append(np.asarray(image))
    return Sprites(names=tuple(names), class_ids=np.array(class_ids), pixels=np.stack(pixels))


def _shows(sprite, entry):
    icon = sprite.split("/")[1]
    if entry.voc.name == "diningtable":
        return icon.startswith("dining-table")
    return icon in entry.icons


@pytest.fixture(scope="session")
def composer(sprites):
    return Composer(sprites=sprites, members=sprites.of_split("train"), seed=5)


@pytest.fixture(scope="session")
def images(composer):
    """(48, 128, 128, 3) RGB."""
    return np.stack([composer.compose(i).image for i in range(48)])


@pytest.fixture(scope="session")
def space(images):
    return fit_latent_space(images)


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def cache(sprites, space, tmp_path_factory):
    """Thirty training pictures."""
    folder = tmp_path_factory.mktemp("mini")
    save_sprites(sprites, folder / "sprites.npz")
    settings = DataSettings(variety="all", images=30, seed=3)
    return build_cache(folder / "cache", settings, folder / "sprites.npz", space, processes=0)
